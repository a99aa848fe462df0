package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const unitFiles = "packaging/systemd"

// units has systemd check the units, and holds their exposure against what
// docs/operations.md says of it. systemd need not run here.
func units(ctx context.Context, s *suite) error {
	root := filepath.Join(s.tmp, "units")
	names, err := plantUnits(root, unitFiles)
	if err != nil {
		return err
	}
	args := append([]string{"verify", "--man=no", "--root=" + root}, names...)
	said, err := s.everything(s.command(ctx, ".", "systemd-analyze", args...))
	if err == nil && said != "" {
		// A line that is not understood is no error to systemd.
		err = errors.New("systemd-analyze verify has remarks")
	}
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, said)
	}
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		out, err := s.everything(s.command(ctx, ".", "systemd-analyze", "security", "--offline=true", "--no-pager", "--root="+root, name))
		if err != nil {
			return fmt.Errorf("%w:\n%s", err, out)
		}
		errs = append(errs, sameExposure(name, out, string(doc)))
	}
	return errors.Join(errs...)
}

// everything runs a command and returns all that it said.
func (s *suite) everything(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.show(cmd)
	return out.String(), err
}

// plantUnits makes a root folder with the units in dir, those of this host's
// systemd, and something in the place of each program.
func plantUnits(root, dir string) (names []string, err error) {
	const base = "usr/lib/systemd/system"
	if err := os.CopyFS(filepath.Join(root, base), os.DirFS("/"+base)); err != nil {
		return nil, fmt.Errorf("systemd's own units: %w (Debian's package systemd has them)", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.service"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no units in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if err := plant(filepath.Join(root, "etc/systemd/system", filepath.Base(f)), text, 0o644); err != nil {
			return nil, err
		}
		for _, m := range execLine.FindAllSubmatch(text, -1) {
			if err := plant(filepath.Join(root, string(m[1])), []byte("#!/bin/sh\n"), 0o755); err != nil {
				return nil, err
			}
		}
		names = append(names, filepath.Base(f))
	}
	return names, nil
}

func plant(path string, text []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, mode)
}

var (
	execLine = regexp.MustCompile(`(?m)^Exec\w+=(/\S+)`)
	exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `)
)

// sameExposure holds what systemd-analyze security says of a unit against its
// row in the manual.
func sameExposure(unit, said, doc string) error {
	m := exposure.FindStringSubmatch(said)
	if m == nil {
		return fmt.Errorf("%s: systemd-analyze tells no exposure level: %.200s", unit, said)
	}
	if row := "| `" + unit + "` | " + m[1] + " |"; !strings.Contains(doc, row) {
		return fmt.Errorf("%s: its exposure level is %s: docs/operations.md has no row %q", unit, m[1], row)
	}
	return nil
}
