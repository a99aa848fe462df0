// Package oidctest runs the real OpenID provider of cmd/internal/oidcop for
// tests: built from its own module, started as a process, asked for tokens
// over HTTP.
package oidctest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Clients of every provider, with their secrets.
var Clients = map[string]string{"agent-a": "secret-a", "agent-b": "secret-b", "alice": "secret-alice"}

// Provider is a running provider.
type Provider struct {
	Issuer string
	t      testing.TB
	cmd    *exec.Cmd
	stop   sync.Once
}

// built is the folder of the binary, once a test has asked for it.
var built string

// build makes the binary once for a test program; Main removes it.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "oidcop")
	if err != nil {
		return "", err
	}
	built = dir
	_, here, _, _ := runtime.Caller(0)
	bin := filepath.Join(dir, "oidcop")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = filepath.Join(filepath.Dir(here), "../../../cmd/internal/oidcop")
	cmd.Stderr = os.Stderr
	return bin, cmd.Run()
})

// Main runs a package's tests and removes the provider's binary afterwards;
// call it from TestMain.
func Main(m interface{ Run() int }) int {
	defer func() {
		if built != "" {
			os.RemoveAll(built)
		}
	}()
	return m.Run()
}

// Start starts a provider; args are added to `oidcop serve`. It ends with the
// test.
func Start(t testing.TB, args ...string) *Provider {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatalf("build the provider: %v", err)
	}
	args = append([]string{"serve"}, args...)
	for id, secret := range Clients {
		args = append(args, "--client", id+":"+secret)
	}
	p := &Provider{t: t, cmd: exec.Command(bin, args...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	issuer, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("the provider says %q (%v)", line, err)
	}
	p.Issuer = issuer
	return p
}

// Stop ends the provider and waits for it; it must end cleanly.
func (p *Provider) Stop() {
	p.stop.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			p.t.Errorf("the provider ended badly: %v", err)
		}
	})
}

// Token asks the provider for a token of a client; args are added to `oidcop
// token`.
func (p *Provider) Token(client string, args ...string) string {
	p.t.Helper()
	return p.run(append([]string{"token", "--issuer", p.Issuer, "--client", client, "--secret", Clients[client]}, args...)...)
}

// Rotate makes a new signing key; args are added to `oidcop rotate`.
func (p *Provider) Rotate(args ...string) {
	p.t.Helper()
	p.run(append([]string{"rotate", "--issuer", p.Issuer}, args...)...)
}

// Approve answers a log-in by device code for a person; without a subject it
// denies.
func (p *Provider) Approve(code, subject string) {
	p.t.Helper()
	p.run("approve", "--issuer", p.Issuer, "--code", code, "--subject", subject)
}

func (p *Provider) run(args ...string) string {
	p.t.Helper()
	bin, err := build()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("oidcop %s: %v", args[0], err)
	}
	return strings.TrimSpace(string(out))
}
