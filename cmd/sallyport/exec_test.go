package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

// The test binary is sallyport itself when this is set.
func init() {
	if os.Getenv("SALLYPORT_EXEC_TEST") != "" {
		commands = []func() *cobra.Command{execCmd}
		os.Exit(run(os.Args[1:]))
	}
}

func sallyportExec(t *testing.T, config string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"--config", config, "exec"}, args...)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_EXEC_TEST=1")
	b, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestExec(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run `make test`")
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	guarded := fmt.Sprintf("/sallyport.exectest-%d", os.Getpid())
	if err := os.Mkdir(root+guarded, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for range 1200 {
			if left, _ := filepath.Glob(root + guarded + "/exec-*"); len(left) == 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err := unix.Rmdir(root + guarded); err != nil {
			t.Error(err)
		}
	}()
	dir, err := os.MkdirTemp("", "sallyport")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "sallyport.yaml")
	token := filepath.Join(dir, "token")
	for path, text := range map[string]string{token: "a token", config: `
run: ` + dir + `
resources: [{name: clinic, protocol: postgres, addresses: ["127.0.0.1:5432"]}]
identity:
  issuers: [{url: "https://issuer.example", audience: sallyport}]
`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := sallyportExec(t, config, "--token-file", token, "--", "true"); code != 1 || !strings.Contains(out, "sallyport run") {
		t.Errorf("without a loader: %d %s", code, out)
	}
	p, err := privsep.NewProver(root, guarded, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := privsep.ListenControl(filepath.Join(dir, "control.sock"), p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx) }()
	defer func() {
		time.Sleep(600 * time.Millisecond) // two sweeps
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	out, code := sallyportExec(t, config, "--token-file", token, "--user", "65534:65533", "--name", "n", "--",
		"sh", "-c", `grep ^0:: /proc/self/cgroup; grep -E "^(Uid|Gid|CapBnd|NoNewPrivs)" /proc/self/status; cat `+token+`; exit 42`)
	for _, want := range []string{"0::" + guarded + "/exec-n\n", "Uid:\t65534\t", "Gid:\t65533\t", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "ermission denied"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if code != 42 {
		t.Errorf("exit code %d", code)
	}
	if out, code := sallyportExec(t, config, "--token-file", token, "--user", "nobody", "--", "sh", "-c", "id -un; echo $HOME $USER $#", "-c", "x"); code != 0 || !strings.Contains(out, "nobody\n/nonexistent nobody 1\n") {
		t.Errorf("%d %s", code, out)
	}
	for want, args := range map[string][]string{
		"no command":   {"--token-file", token},
		"--token-file": {"--", "true"},
		"no such user": {"--token-file", token, "--user", "no-such-user", "--", "true"},
		"give a name":  {"--token-file", token, "--user", "4294967295:1", "--", "true"},
		"not found":    {"--token-file", token, "--", "no-such-command"},
		"unknown flag": {"--no-such-flag"},
	} {
		if out, code := sallyportExec(t, config, args...); code != 2 || !strings.Contains(out, want) {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
}

func TestHomeOf(t *testing.T) {
	got := homeOf([]string{"HOME=/root", "PATH=/bin", "USER=root"}, nil)
	if !slices.Equal(got, []string{"PATH=/bin"}) {
		t.Error(got)
	}
}
