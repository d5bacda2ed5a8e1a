package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// childFlag makes this program the empty servers.
const childFlag = "-serve-empty"

// options say how much is measured.
type options struct {
	rounds int
	each   time.Duration
	only   string
	weir   string
	output string
}

// sections are what can be measured, in order.
var sections = []struct {
	name string
	run  func(context.Context, options, *report) error
}{
	{"engine", engine},
	{"rivals", rivals},
	{"memory", memoryPerKey},
	{"auth", auth},
	{"rls", rlsThroughput},
	{"nodes-strict", strictChecks},
	{"nodes-leased", leasedChecks},
	{"nodes-rls", rlsBesideEnvoy},
}

// chose tells whether a section is wanted: by its name, or with others by what is before the dash in it.
func (o *options) chose(section string) bool {
	group, _, _ := strings.Cut(section, "-")
	only := strings.Split(o.only, ",")
	return o.only == "" || slices.Contains(only, section) || slices.Contains(only, group)
}

func main() {
	if slices.Contains(os.Args[1:], childFlag) {
		exit(serveEmpty(os.Stdout))
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "rounds; their median counts")
	flag.DurationVar(&o.each, "for", time.Second, "how long a contender is measured in a round")
	flag.StringVar(&o.only, "only", "", "sections to measure, with commas between them; default: all")
	flag.StringVar(&o.weir, "weir", "../bin/weir", "the weir that auth and rls measure")
	flag.StringVar(&o.output, "o", "text", "text or json")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) error {
	if o.rounds < 1 || o.rounds > 1000 || o.each <= 0 || o.each > time.Minute {
		return fmt.Errorf("-rounds %d -for %v: want 1 to 1000 rounds of up to a minute", o.rounds, o.each)
	}
	var r report
	for _, s := range sections {
		if !o.chose(s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		if err := s.run(ctx, o, &r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if len(r.Rows)+len(r.Figures) == 0 {
		return fmt.Errorf("-only %s: there is no such section", o.only)
	}
	if o.output == "json" {
		return r.writeJSON(os.Stdout)
	}
	return r.write(os.Stdout)
}
