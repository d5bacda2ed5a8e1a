package main

import (
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionOf(t *testing.T) {
	build := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.9.0"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	}
	for _, c := range []struct {
		name, set string
		build     *debug.BuildInfo
		want      string
	}{
		{"nothing known", "", nil, "unknown"},
		{"toolchain", "", build, "v0.9.0"},
		{"release", "v1.0.0", build, "v1.0.0"},
		{"no module version", "", &debug.BuildInfo{}, "unknown"},
	} {
		v := versionOf(c.set, c.build)
		if v.Version != c.want || v.Modified != (c.build == build) {
			t.Errorf("%s: %+v, want %s", c.name, v, c.want)
		}
	}
}

func TestVersion(t *testing.T) {
	r := weir(t, "version", "-o", "json")
	var v versionView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Kernel == "" || v.Go == "" || v.Layout == 0 {
		t.Errorf("%v: %+v", err, r)
	}
	if r := weir(t, "version"); r.code != exitOK || !strings.Contains(r.out, "layout  2\n") {
		t.Errorf("%+v", r)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := weir(t, "completion", shell); r.code != exitOK || len(r.out) < 1000 {
			t.Errorf("%s: exit code %d, %d bytes, %s", shell, r.code, len(r.out), r.err)
		}
	}
}
