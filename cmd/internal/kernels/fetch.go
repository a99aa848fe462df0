package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// fetch returns the folder that holds a kernel's unpacked packages. It is made
// once: its name holds the version, and it is renamed into place when whole.
func fetch(ctx context.Context, cache string, k kernel) (string, error) {
	dir := filepath.Join(cache, k.series+"_"+k.packages[0].version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "fetch")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	a, err := newApt(ctx, tmp, k.suite)
	if err != nil {
		return "", err
	}
	root := filepath.Join(tmp, "root")
	for _, p := range k.packages {
		deb, sum, err := a.download(ctx, p.name+"="+p.version)
		if err != nil {
			return "", fmt.Errorf("%w: if Debian has dropped it, `go run ./cmd/internal/kernels -pin` takes its successor", err)
		}
		if sum != p.sha256 {
			return "", fmt.Errorf("%s %s: its SHA-256 is %s, not the pinned %s", p.name, p.version, sum, p.sha256)
		}
		if err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root), nil); err != nil {
			return "", err
		}
	}
	err = os.Rename(root, dir)
	if _, serr := os.Stat(dir); serr == nil {
		return dir, nil // somebody else's, of the same version, is as good
	}
	return dir, err
}

// apt is the packages of one suite, apart from the machine's own sources. That
// what it gives is Debian's is proved by the signature of the suite's index.
type apt struct {
	dir     string
	options []string
}

func newApt(ctx context.Context, tmp, suite string) (*apt, error) {
	tmp, err := filepath.Abs(tmp)
	if err != nil {
		return nil, err
	}
	a := &apt{dir: tmp}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return nil, err
		}
	}
	const source = "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n"
	list := filepath.Join(tmp, "sources.list")
	if err := os.WriteFile(list, fmt.Appendf(nil, source, suite), 0o644); err != nil {
		return nil, err
	}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null", "Dir::Etc::preferencesparts=/dev/null",
		"Dir::State=" + tmp, "Dir::State::lists=" + filepath.Join(tmp, "lists"), "Dir::State::status=/dev/null",
		"Dir::Cache=" + filepath.Join(tmp, "cache"), "Acquire::Languages=none", "APT::Sandbox::User=root",
	} {
		a.options = append(a.options, "-o", o)
	}
	return a, a.run(ctx, nil, "apt-get", "update", "-q", "--error-on=any")
}

func (a *apt) run(ctx context.Context, out *string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, append(args, a.options...)...)
	cmd.Dir = a.dir
	return output(cmd, out)
}

// download gets one package's file and its SHA-256.
func (a *apt) download(ctx context.Context, spec string) (deb, sum string, err error) {
	if err := a.run(ctx, nil, "apt-get", "download", "-q", spec); err != nil {
		return "", "", err
	}
	name, _, _ := strings.Cut(spec, "=")
	found, _ := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if len(found) != 1 {
		return "", "", fmt.Errorf("apt-get download %s left %d files", spec, len(found))
	}
	f, err := os.Open(found[0])
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", err
	}
	return found[0], hex.EncodeToString(h.Sum(nil)), nil
}

// depends are the kernel's packages among those that a package asks for:
// "linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1)", with their versions.
var depends = regexp.MustCompile(`\b(linux-(?:image|binary|modules)-[0-9]\S*-cloud-amd64) \(= ([^)]+)\)`)

// newest finds the packages that the kernel of a suite is made of now. Up to
// 6.19 that is linux-image-..., after it what that one depends on.
func newest(ctx context.Context, cache, suite string) (k kernel, err error) {
	tmp, err := os.MkdirTemp(cache, "pin")
	if err != nil {
		return k, err
	}
	defer os.RemoveAll(tmp)
	a, err := newApt(ctx, tmp, suite)
	if err != nil {
		return k, err
	}
	asked := func(spec string) (found [][]string, err error) {
		var text string
		err = a.run(ctx, &text, "apt-cache", "show", "--no-all-versions", spec)
		return depends.FindAllStringSubmatch(text, -1), err
	}
	image, err := asked("linux-image-cloud-amd64")
	if err != nil || len(image) == 0 {
		return k, fmt.Errorf("%s: no kernel found: %w", suite, err)
	}
	parts, err := asked(image[0][1] + "=" + image[0][2])
	if err != nil {
		return k, err
	}
	if len(parts) == 0 {
		parts = image[:1]
	}
	k.suite = suite
	k.series = regexp.MustCompile(`^\d+\.\d+`).FindString(parts[0][2])
	for _, m := range parts {
		_, sum, err := a.download(ctx, m[1]+"="+m[2])
		if err != nil {
			return k, err
		}
		k.packages = append(k.packages, pkg{m[1], m[2], sum})
	}
	return k, nil
}

// output runs a command; what it said is in the error.
func output(cmd *exec.Cmd, out *string) error {
	var stdout, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, &all), &all
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, tail(all.String(), 10))
	}
	if out != nil {
		*out = stdout.String()
	}
	return nil
}

// tail is the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
