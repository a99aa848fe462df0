package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A machine is a virtual one: a kernel, the initramfs that is all of its
// files, and nothing else but two serial ports.
type machine struct {
	qemu              qemu
	kernel, initramfs string // files
	console           string // file that is to hold the kernel's messages
	kvm               bool   // else emulated
	limit             time.Duration
	first             time.Duration // until its first report
}

// errNoReport: the machine never said a word.
type errNoReport struct{ why string }

func (e errNoReport) Error() string { return "it did not come up: " + e.why }

// boot runs the machine until it is off, and hands each report to take.
func (m *machine) boot(ctx context.Context, take func(report)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("still on after %s", m.limit))
	defer cancel()
	accel, cpu := "tcg", "max"
	if m.kvm {
		accel, cpu = "kvm", "host"
	}
	cmd := exec.CommandContext(ctx, m.qemu.path, "-M", "q35", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", "2G",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:"+m.console, "-serial", "stdio",
		"-kernel", m.kernel, "-initrd", m.initramfs,
		"-append", "console=ttyS0 loglevel=4 panic=-1 oops=panic softlockup_panic=1 nokaslr mitigations=off random.trust_cpu=on")
	for _, dir := range m.qemu.firmware {
		cmd.Args = append(cmd.Args, "-L", dir)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	silent := time.AfterFunc(m.first, cancel)
	up, done := false, false
	in := bufio.NewReader(out)
	var rerr error
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		var r report
		if err := json.Unmarshal(bytes.TrimSpace(line), &r); err != nil {
			rerr = fmt.Errorf("its serial port: %w: %q", err, line)
			continue
		}
		up = silent.Stop() || up
		done = done || r.Done
		take(r)
	}
	err = cmd.Wait()
	switch {
	case !up:
		return errNoReport{strings.TrimSpace(said.String()) + "\n" + m.tail()}
	case context.Cause(ctx) != nil:
		return fmt.Errorf("%w: its console:\n%s", context.Cause(ctx), m.tail())
	case err != nil:
		return fmt.Errorf("qemu: %w: %s", err, tail(said.String(), 5))
	case !done:
		return fmt.Errorf("it went off before it was done: its console:\n%s", m.tail())
	}
	return rerr
}

// tail is the last of what the kernel said.
func (m *machine) tail() string {
	f, err := os.Open(m.console)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return tail(strings.ReplaceAll(string(b), "\r", ""), 30)
}

// writeInitramfs writes the machine's files: the plan, this program as init,
// the modules and the test binaries.
func writeInitramfs(path string, init string, mods []module, bins map[string]string, runs []run) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	c := &cpio{w: w}
	for _, d := range []string{"attempts", "bin", "dev", "etc", "modules", "proc", "run", "sys", "tests", "tmp"} {
		c.dir(d, 0o755)
	}
	c.file("etc/passwd", 0o644, []byte("root:x:0:0::/tmp:/bin/false\nnobody:x:65534:65534::/tmp:/bin/false\n"))
	c.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	c.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	p := plan{Runs: runs}
	for _, m := range mods {
		name := "modules/" + m.name + ".ko"
		c.file(name, 0o644, m.elf)
		p.Modules = append(p.Modules, "/"+name)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	c.file(strings.TrimPrefix(planPath, "/"), 0o644, text)
	files := maps.Clone(bins)
	files[strings.TrimPrefix(initPath, "/")] = init
	for name, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		c.file(name, 0o755, b)
	}
	if err := c.close(); err != nil {
		return err
	}
	return w.Flush()
}

// vmlinuz finds the kernel's image below the unpacked packages.
func vmlinuz(root string) (string, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s: no kernel image found: remove the folder, it is fetched again", root)
}
