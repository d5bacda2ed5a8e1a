package config

import (
	"encoding/json"
	"testing"

	"github.com/weir-limiter/weir/internal/corpus"
	"github.com/weir-limiter/weir/internal/yamlfile/yamltest"
	"github.com/weir-limiter/weir/pkg/policy"
)

const files = corpus.Corpus("../../testdata/config")

func TestBadFiles(t *testing.T) {
	files.CheckBad(t, ".yaml", func(t *testing.T, file string, data []byte) string {
		cfg, err := Parse(file, data)
		checkRefusal(t, cfg, err)
		return err.Error()
	})
}

func checkRefusal(t *testing.T, cfg *Config, err error) {
	t.Helper()
	if cfg != nil {
		t.Errorf("refused, and made %v", cfg)
	}
	yamltest.CheckFaults(t, err, maxErrors+1)
}

// checkDocument holds that what a file asks for is valid, and can be written as JSON and read back.
func checkDocument(t *testing.T, want policy.Document) {
	t.Helper()
	if faults := want.Validate(); faults != nil {
		t.Errorf("accepted, but %v", faults)
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got policy.Document
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	compare(t, want, got)
}

func TestGoodFilesLoad(t *testing.T) {
	for _, name := range files.Names(t, "good", ".yaml") {
		cfg, err := Load(files.Path("good", name+".yaml"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkDocument(t, cfg.Document())
		if faults := cfg.Document().ValidateFor(cfg.Store()); faults != nil {
			t.Errorf("%s: filled in, and %v", name, faults)
		}
	}
}
