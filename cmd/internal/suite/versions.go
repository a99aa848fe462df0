package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// servers is where .ci/deps versions puts a server of each major.
const servers = ".cache/postgres/node_modules"

// versions runs the PostgreSQL session's tests with a server of each major.
func versions(ctx context.Context, s *suite) error {
	found, err := filepath.Glob(servers + "/[0-9]*/native")
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no server in %s: run .ci/deps versions", servers)
	}
	slices.Sort(found)
	errs := []error{err}
	for _, native := range found {
		major := filepath.Base(filepath.Dir(native))
		fmt.Fprintf(s.out, "-- PostgreSQL %s\n", major)
		if err := s.version(ctx, native); err != nil {
			errs = append(errs, fmt.Errorf("PostgreSQL %s: %w", major, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// version runs them with a copy of one server: it runs as a user who need not be
// able to enter this folder.
func (s *suite) version(ctx context.Context, native string) (err error) {
	dir, err := os.MkdirTemp(s.tmp, "postgres")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.Unsetenv("SALLYPORT_POSTGRES")) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := s.show(s.command(ctx, ".", "cp", "-a", native, dir)); err != nil {
		return err
	}
	if err := os.Setenv("SALLYPORT_POSTGRES", filepath.Join(dir, "native", "bin")); err != nil {
		return err
	}
	packages := []string{"./protocols/postgres", "./protocols/postgres/rewrite"}
	if filepath.Base(filepath.Dir(native)) >= "15" { // its tables have numbers that older ones do not
		packages = append(packages, "./policy/mask")
	}
	return s.gotest(ctx, nil, packages...)
}
