package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/policy/rules"
)

const (
	starterConfig = "sallyport.yaml"
	starterPolicy = "policy.yaml"
)

// vacant reports whether a starter can be written to a folder: before the time
// that the inventory takes is spent.
func vacant(dir string) error {
	for _, name := range []string{starterConfig, starterPolicy} {
		_, err := os.Lstat(filepath.Join(dir, name))
		switch {
		case err == nil:
			return fmt.Errorf("--write %s: %s is there already and is not overwritten: name another folder", dir, name)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("--write %s: %w", dir, err)
		}
	}
	return nil
}

// writeStarter writes a configuration and a policy that say what was seen. Both
// are held against the programs that read them before anything is written.
func writeStarter(said io.Writer, dir string, inv *discover.Inventory) error {
	s := newStarter(inv)
	if len(s.resources) == 0 {
		return errors.New("--write: nothing was seen that sallyport can protect, so there is nothing to write: watch longer, or begin with docs/sallyport.example.yaml")
	}
	cfg, pol := []byte(s.config()), []byte(s.policy())
	if _, err := config.Parse(cfg, filepath.Join(dir, starterConfig)); err != nil {
		return fmt.Errorf("the starter configuration is not valid, which is a fault in sallyport: %w", err)
	}
	if _, err := rules.Parse(rules.File{Name: starterPolicy, Data: pol}); err != nil {
		return fmt.Errorf("the starter policy is not valid, which is a fault in sallyport: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{starterPolicy, pol}, {starterConfig, cfg}} {
		path := filepath.Join(dir, f.name)
		if err := create(path, f.data); err != nil {
			return fmt.Errorf("--write: %w", err)
		}
		fmt.Fprintln(said, "wrote", path)
	}
	fmt.Fprintf(said, "next: read them, and run `sallyport doctor -c %s`\n", filepath.Join(dir, starterConfig))
	return nil
}

// create makes a file that only root may read, and never over another.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
