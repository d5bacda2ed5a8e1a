package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/loader"
)

// version is what a release build sets: go build -ldflags "-X main.version=v1.2.3". Otherwise it is
// what the Go toolchain knows.
var version string

func newVersionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of weir, of Go, of the kernel, and of what weir pins",
		Long: `Show the versions of weir, of Go, and of the running kernel. The layout is that of what weir pins: versions
of weir with the same layout take over each other's buckets.`,
		Example: "  weir version\n  weir version -o json | jq -r .version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			build, _ := debug.ReadBuildInfo()
			v := versionOf(version, build)
			v.Kernel = kernelRelease()
			return e.show(v, func(p *page) { writeVersion(p, &v) })
		},
	}
}

// versionView is the JSON of weir version.
type versionView struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, if the toolchain knew
	Modified bool   `json:"modified"`           // the source was not as committed
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Kernel   string `json:"kernel"`
	Layout   int    `json:"layout_version"`
}

// versionOf takes a version that was set over the toolchain's. build may be nil.
func versionOf(set string, build *debug.BuildInfo) versionView {
	v := versionView{
		Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Layout: loader.LayoutVersion,
	}
	if build != nil {
		if build.Main.Version != "" {
			v.Version = build.Main.Version
		}
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if set != "" {
		v.Version = set
	}
	return v
}

func writeVersion(p *page, v *versionView) {
	g := fields("")
	g.field("weir", "%s", v.Version)
	if v.Revision != "" {
		modified := ""
		if v.Modified {
			modified = ", modified"
		}
		g.field("revision", "%s%s", v.Revision, modified)
	}
	g.field("go", "%s %s", v.Go, v.Platform)
	g.field("kernel", "%s", v.Kernel)
	g.field("layout", "%d", v.Layout)
	g.write(p)
}

// kernelRelease is what uname -r prints.
func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Sprintf("unknown: %v", err) // it takes a wrong pointer
	}
	return unix.ByteSliceToString(name.Release[:])
}
