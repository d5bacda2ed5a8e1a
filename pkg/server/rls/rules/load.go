package rules

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MaxFileSize is the size of the largest file that is read, in bytes.
const MaxFileSize = 4 << 20

// maxFiles bounds what a directory that was named by mistake can cost.
const maxFiles = 1000

// Load reads files, and the .yaml and .yml files of directories, those below them included. Names that begin
// with a dot are left out, as a mounted Kubernetes ConfigMap has its files twice. Faults of what the files
// hold are [Errors]; a file that can't be read is an error that wraps the one of the operating system.
func Load(paths ...string) (*Set, error) {
	files, err := list(paths)
	if err != nil {
		return nil, fmt.Errorf("server.rls_config: %w", err)
	}
	var b builder
	for _, name := range files {
		data, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("server.rls_config: %w", err)
		}
		b.add(name, data)
	}
	return b.build()
}

// Parse reads one file from data. The name stands for it in messages. Every error is of type [Errors].
func Parse(name string, data []byte) (*Set, error) {
	var b builder
	b.add(name, data)
	return b.build()
}

func list(paths []string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, path := range paths {
		found, err := listOne(path)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if !seen[filepath.Clean(name)] { // a file that is named beside its directory is still one file
				seen[filepath.Clean(name)] = true
				files = append(files, name)
			}
		}
		if len(files) > maxFiles {
			return nil, fmt.Errorf("more than %d files (is %s the right directory?)", maxFiles, path)
		}
	}
	return files, nil
}

func listOne(path string) ([]string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (name a file or a directory of the format of envoyproxy/ratelimit)", err)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	if !strings.HasSuffix(path, "/") {
		path += "/" // or a link to a directory would be a file to WalkDir
	}
	// WalkDir goes by name, and doesn't follow further links to directories: there is no circle.
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != path && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case !entry.IsDir() && (filepath.Ext(name) == ".yaml" || filepath.Ext(name) == ".yml"):
			files = append(files, name)
		}
		if len(files) > maxFiles {
			return fs.SkipAll
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("directory %s has no .yaml or .yml file (put one there, or name the file itself)", path)
	}
	return files, err
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// A pipe would keep the daemon waiting, and what is behind a device has no end.
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	// One byte more than is allowed, to see that it is too much.
	return io.ReadAll(io.LimitReader(file, MaxFileSize+1))
}
