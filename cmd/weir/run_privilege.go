package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/privilege"
)

// reducePrivileges gives up what is not needed any more, where that is possible.
func (d *daemon) reducePrivileges(stateDir string) error {
	reduce := privilege.Drop
	if d.packets != nil {
		if !onBPFFS(stateDir) {
			// The loader reaches the directory by the mounts of a process that this one descends from. The
			// kernel lets nobody look at those who has fewer capabilities than that process.
			d.log.Warn("all capabilities are kept: the bpf file system is mounted in another mount namespace only",
				"bpffs", stateDir, "mend", "run weir where it is mounted, or mount it here")
			return nil
		}
		reduce = privilege.Reduce
	}
	err := reduce()
	if errors.Is(err, privilege.ErrCgo) {
		d.log.Warn("all capabilities are kept", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	d.warnUnreadable()
	return nil
}

// warnUnreadable tells of files that a reload reads and could not: root without CAP_DAC_OVERRIDE may not
// read all of them. Better to hear of it now.
func (d *daemon) warnUnreadable() {
	for _, path := range d.files() {
		f, err := os.Open(path)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			d.log.Warn("a file can't be read again without the capabilities that were given up: no reload will work",
				"error", err, "mend", "let root own the file and the directories above it")
		}
	}
}

func onBPFFS(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// files are those that a reload reads.
func (d *daemon) files() []string {
	c := &d.config.Server
	all := append([]string{d.file}, rulesFiles(c.RLSConfig)...)
	for _, path := range []string{c.AdminTokenFile, keyFile(c.JWT)} {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}
