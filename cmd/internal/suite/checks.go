package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tools are modules without packages: each pins a tool.
const tools = "tools"

// walk calls f for the files of the repository, except for what is hidden,
// built or data of tests.
func walk(f func(path string) error) error {
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != "." && (name[0] == '.' || name == "bin" || name == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		return f(path)
	})
}

// modules are the folders that hold a go.mod.
func modules() (out []string, err error) {
	err = walk(func(path string) error {
		if filepath.Base(path) == "go.mod" {
			out = append(out, filepath.Dir(path))
		}
		return nil
	})
	return out, err
}

// tool is the arguments of go that run a pinned tool in any module.
func tool(name string, args ...string) []string {
	mod, _ := filepath.Abs(filepath.Join(tools, name, "go.mod"))
	return append([]string{"tool", "-modfile=" + mod, name}, args...)
}

// format has the formatters name what they would change.
func format(ctx context.Context, s *suite) error {
	list, err := s.output(s.command(ctx, ".", "go", tool("gofumpt", "-l", ".")...))
	if err == nil && list != "" {
		err = fmt.Errorf("not formatted: %s: run `make fmt`", strings.Join(strings.Fields(list), " "))
	}
	c := []string{"--dry-run", "--Werror"}
	err = errors.Join(err, walk(func(path string) error {
		if ext := filepath.Ext(path); ext == ".c" || ext == ".h" {
			c = append(c, path)
		}
		return nil
	}))
	return errors.Join(err, s.show(s.command(ctx, ".", "clang-format", c...)))
}

func vet(ctx context.Context, s *suite) error {
	return s.everywhere(ctx, "vet", "./...")
}

func staticcheck(ctx context.Context, s *suite) error {
	return s.everywhere(ctx, tool("staticcheck", "./...")...)
}

// everywhere runs go in each module that holds packages.
func (s *suite) everywhere(ctx context.Context, args ...string) error {
	dirs, err := modules()
	errs := []error{err}
	for _, dir := range dirs {
		if filepath.Dir(dir) != tools {
			errs = append(errs, s.show(s.command(ctx, dir, "go", args...)))
		}
	}
	return errors.Join(errs...)
}

func tidy(ctx context.Context, s *suite) error {
	dirs, err := modules()
	errs := []error{err}
	for _, dir := range dirs {
		if err := s.show(s.command(ctx, dir, "go", "mod", "tidy", "-diff")); err != nil {
			errs = append(errs, fmt.Errorf("%w: run `go mod tidy` in %s", err, dir))
		}
	}
	return errors.Join(errs...)
}

// vagrantfile does not ask for a hypervisor, nor for the network. The scripts
// beside it, and those that CI runs, are checked too.
func vagrantfile(ctx context.Context, s *suite) error {
	cmd := s.command(ctx, "vagrant", "vagrant", "validate", "--ignore-provider")
	cmd.Env = append(cmd.Env, "VAGRANT_HOME="+filepath.Join(s.tmp, "vagrant"), "VAGRANT_DOTFILE_PATH="+filepath.Join(s.tmp, "vagrant"),
		"VAGRANT_CHECKPOINT_DISABLE=1")
	_, err := s.output(cmd)
	scripts, gerr := filepath.Glob("vagrant/*.sh")
	scripts = append(scripts, ".ci/deps", ".ci/run")
	return errors.Join(err, gerr, s.show(s.command(ctx, ".", "shellcheck", append([]string{"-x"}, scripts...)...)))
}

// generated makes the BPF objects again, elsewhere, as go generate would, and
// compares them with the committed ones byte for byte.
func generated(ctx context.Context, s *suite) error {
	const dir, directive = "bpf", "//go:generate go run "
	doc, err := os.ReadFile(filepath.Join(dir, "doc.go"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(doc), directive)[1:]
	if len(lines) == 0 {
		return fmt.Errorf("%s/doc.go: no line %q", dir, directive)
	}
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "\n")
		err = errors.Join(err, s.generated(ctx, dir, strings.Fields(line)))
	}
	return err
}

// generated makes one object: args are those of go run.
func (s *suite) generated(ctx context.Context, dir string, args []string) error {
	out, err := os.MkdirTemp(s.tmp, dir)
	if err != nil {
		return err
	}
	cmd := s.command(ctx, dir, "go", append([]string{"run", args[0], "-output-dir", out}, args[1:]...)...)
	cmd.Env = append(cmd.Env, "GOPACKAGE="+dir)
	if err := s.show(cmd); err != nil {
		return err
	}
	made, err := os.ReadDir(out)
	if err != nil || len(made) < 2 {
		return errors.Join(err, fmt.Errorf("bpf2go made %d files", len(made)))
	}
	var errs []error
	for _, f := range made {
		fresh, err := os.ReadFile(filepath.Join(out, f.Name()))
		have, herr := os.ReadFile(filepath.Join(dir, f.Name()))
		if err = errors.Join(err, herr); err == nil && !bytes.Equal(fresh, have) {
			err = fmt.Errorf("%s/%s is not what its sources make: run `make generate` and commit it", dir, f.Name())
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, os.RemoveAll(out))...)
}
