package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kernels is where scripts/vm-kernels.sh puts them.
const kernels = "build/kernels"

// image is the part of the initramfs that all machines share, and where the others are made.
type image struct {
	dir    string
	common string // a cpio archive
}

// binary is the name of the suite's test binary.
func (s *suite) binary() string { return strings.ReplaceAll(s.Package, "/", "-") + ".test" }

// newImage builds in dir, from the tree in the current directory, what the machines run.
func newImage(ctx context.Context, dir string, machines []machine) (*image, error) {
	root := filepath.Join(dir, "common")
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", binPath, testsPath, treePath} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, err
		}
	}
	bin := filepath.Join(root, binPath)
	for _, build := range [][]string{
		{"build", "-o", filepath.Join(root, "init"), "./test/vm"},
		{"build", "-o", filepath.Join(bin, "weir"), "./cmd/weir"},
		{"build", "-o", filepath.Join(bin, "test2json"), "cmd/test2json"},
	} {
		if err := goTool(ctx, build...); err != nil {
			return nil, err
		}
	}
	var done []string
	for _, m := range machines {
		for _, s := range m.Suites {
			if slices.Contains(done, s.Package) {
				continue
			}
			done = append(done, s.Package)
			if err := s.install(ctx, root); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Package, err)
			}
		}
	}
	// What tests of several packages read, and the object that the benchmark is compared with.
	for _, d := range []string{"testdata", "examples", "bpf/bench"} {
		if err := os.CopyFS(filepath.Join(root, treePath, d), os.DirFS(d)); err != nil {
			return nil, err
		}
	}
	img := &image{dir: dir, common: root + ".cpio"}
	return img, archive(ctx, root, img.common)
}

// install puts the suite's test binary, and what its package's tests read, where the machine runs it.
func (s *suite) install(ctx context.Context, root string) error {
	tree := filepath.Join(root, treePath, s.Package)
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	data := filepath.Join(s.Package, "testdata")
	if err := os.CopyFS(filepath.Join(tree, "testdata"), os.DirFS(data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return goTool(ctx, "test", "-c", "-o", filepath.Join(root, testsPath, s.binary()), "./"+s.Package)
}

// goTool runs go, for static binaries without debugging information, which would only be unpacked.
func goTool(ctx context.Context, args ...string) error {
	args = slices.Insert(args, len(args)-1, "-ldflags=-s -w")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// archive writes a directory as the kernel unpacks it. It isn't compressed: unpacking takes longer than reading.
func archive(ctx context.Context, root, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "sh", "-c", "find . | cpio --quiet -o -H newc")
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("archive %s: %w (scripts/deps.sh installs cpio)", root, err)
	}
	return out.Close()
}

// initramfs is what the machine boots with: the common part, the modules of its kernel and its plan.
func (img *image) initramfs(ctx context.Context, m *machine) (path string, err error) {
	own, err := os.MkdirTemp(img.dir, m.Kernel+"-")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(own, modulesPath), os.DirFS(filepath.Join(kernels, m.Kernel, "modules"))); err != nil {
		return "", fmt.Errorf("modules of the kernel: %w (scripts/vm-kernels.sh %s)", err, m.Kernel)
	}
	plan, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(own, planPath), plan, 0o644); err != nil {
		return "", err
	}
	path = own + ".cpio"
	if err := archive(ctx, own, path); err != nil {
		return "", err
	}
	return path, appendFile(path, img.common)
}

// appendFile: the kernel unpacks archives one after the other.
func appendFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
