package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shown is what a machine reports where all is well.
func shown() []report {
	zero := 0
	return []report{
		{Kernel: "6.1.0-50-cloud-amd64"},
		{Run: "redirect", Line: mark + "=== RUN   TestUpAdopts"},
		{Run: "redirect", Line: mark + "--- PASS: TestUpAdopts (0.10s)"},
		{Run: "redirect", Line: mark + "--- PASS: TestTurned (0.10s)"},
		{Run: "redirect", Line: "no line break at the end" + mark + "--- PASS: TestStormMixesNothingUp (0.10s)"},
		{Run: "redirect", Line: mark + "--- PASS: TestNoDaemonNoWay (0.10s)"},
		{Run: "redirect", Exit: &zero},
		{Run: "doors", Line: `{"Kernel":"6.1","Door":"x"}`},
		{Run: "doors", Line: mark + "--- PASS: TestDoors (0.10s)"},
		{Run: "doors", Exit: &zero},
	}
}

func TestJudge(t *testing.T) {
	tests := map[string][]string{
		"redirect": {"TestUpAdopts", "TestTurned", "TestStormMixesNothingUp", "TestNoDaemonNoWay"},
		"doors":    {"TestDoors"},
	}
	one := 1
	for name, c := range map[string]struct {
		change func(all []report) []report
		want   string // in what is wrong
	}{
		"all is well":      {func(all []report) []report { return all }, ""},
		"another kernel":   {func(all []report) []report { all[0].Kernel = "6.12.1"; return all }, "6.12.1"},
		"a test fails":     {func(all []report) []report { all[3].Line = mark + "--- FAIL: TestTurned (1s)"; return all }, "TestTurned: FAIL"},
		"a test is missed": {func(all []report) []report { all[3].Line = "nothing"; return all }, "TestTurned did not run"},
		"a skip":           {func(all []report) []report { all[3].Line = mark + "--- SKIP: TestTurned (1s)"; return all }, "TestTurned: SKIP"},
		"printed, not run": {func(all []report) []report { all[3].Line = "--- PASS: TestTurned (0.10s)"; return all }, "TestTurned did not run"},
		"an exit code":     {func(all []report) []report { all[6].Exit = &one; return all }, "exit code 1"},
		"no exit code":     {func(all []report) []report { return append(all[:6:6], all[7:]...) }, "redirect: exit code"},
		"a module's error": {func(all []report) []report { return append(all, report{Error: "load veth"}) }, "load veth"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerdict()
			for _, r := range c.change(shown()) {
				v.take(r)
			}
			passed, wrong := v.judge("6.1", tests)
			if all := strings.Join(wrong, "\n"); !strings.Contains(all, c.want) || (c.want == "") != (all == "") {
				t.Errorf("wrong: %q, want %q", all, c.want)
			}
			if c.want == "" && passed != 5 {
				t.Errorf("%d passed, want 5", passed)
			}
			if want := `{"Kernel":"6.1","Door":"x"}` + "\n"; string(v.rows) != want {
				t.Errorf("rows %q", v.rows)
			}
		})
	}
}

func TestMayLack(t *testing.T) {
	for series, want := range map[string]bool{"6.1": true, "6.6": true, "6.7": false, "6.12": false, "7.3": false, "": false} {
		if mayLack(series, "redirect.TestUnixAllowList") != want || mayLack(series, "redirect.TestTurned") {
			t.Errorf("%q: unix sockets may lack: %t, or all may", series, !want)
		}
	}
}

// A part that no test shows is a failure, whatever the binaries hold.
func TestJudgeWantsEveryPart(t *testing.T) {
	v := newVerdict()
	v.take(report{Kernel: "6.1.0"})
	if missing := v.missing(); len(missing) != len(parts) {
		t.Errorf("%q, want one for each of %d parts", missing, len(parts))
	}
	for _, r := range shown() {
		v.take(r)
	}
	if missing := v.missing(); len(missing) != 0 {
		t.Errorf("%q is missing", missing)
	}
}

func TestPins(t *testing.T) {
	qemu, all, err := parsePins(pinned)
	if err != nil {
		t.Fatal(err)
	}
	if qemu.series != emulator || len(all) < 3 || all[0].series != "6.1" {
		t.Errorf("%+v, %+v", qemu, all)
	}
	if got := writePins(append(all, qemu)); got != pinned {
		t.Errorf("written again:\n%s", got)
	}
	for _, bad := range []string{"", "6.1 bookworm linux 1", "6.1 bookworm linux 1 " + strings.Repeat("0", 64)} {
		if _, _, err := parsePins(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Every name and content of the archive is where the next one begins.
func TestCpio(t *testing.T) {
	var b bytes.Buffer
	c := &cpio{w: &b}
	c.dir("d", 0o755)
	c.file("d/odd", 0o644, []byte("12345"))
	c.file("init", 0o755, []byte("1234"))
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	rest, names := b.Bytes(), []string{}
	field := func(i int) int {
		var n int
		for _, x := range rest[6+8*i : 14+8*i] {
			n = n<<4 + strings.IndexByte("0123456789abcdef", x)
		}
		return n
	}
	for len(rest) > 0 {
		if string(rest[:6]) != "070701" {
			t.Fatalf("no magic at %q", rest[:6])
		}
		size, name := field(6), field(11)
		names = append(names, string(rest[110:110+name-1]))
		rest = rest[(110+name+3)&^3+(size+3)&^3:]
	}
	if got := strings.Join(names, " "); got != "d d/odd init TRAILER!!!" {
		t.Errorf("names %q", got)
	}
}

// What is no machine, or none that speaks, is an error of its own: with KVM it
// means to try without.
func TestMachineThatNeverSpeaks(t *testing.T) {
	for name, script := range map[string]string{
		"ends":       "echo broken >&2; exit 1",
		"hangs":      "exec sleep 600",
		"goes quiet": `echo '{"Kernel":"6.1"}'; exec sleep 600`,
		"goes off":   `echo '{"Kernel":"6.1"}'`,
		"is done":    `echo '{"Kernel":"6.1"}'; echo '{"Done":true}'`,
		"babbles":    `echo '{"Kernel":"6.1"}'; echo oops; echo '{"Done":true}'`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fake := filepath.Join(dir, "qemu")
			console := filepath.Join(dir, "console")
			if err := os.WriteFile(fake, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(console, []byte("one\r\nKernel panic\r\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			m := machine{qemu: qemu{path: fake}, console: console, limit: 2 * time.Second, first: time.Second}
			err := m.boot(t.Context(), func(report) {})
			never := errors.As(err, new(errNoReport))
			switch name {
			case "is done":
				if err != nil {
					t.Error(err)
				}
			case "babbles":
				if err == nil || !strings.Contains(err.Error(), "oops") {
					t.Error(err)
				}
			default:
				if err == nil || !strings.Contains(err.Error(), "Kernel panic") || never != (name == "ends" || name == "hangs") {
					t.Errorf("never spoke: %t, %v", never, err)
				}
			}
		})
	}
}

// An emulated machine's modules come after those that they need.
func TestModuleNeeds(t *testing.T) {
	dir := t.TempDir()
	src, obj := filepath.Join(dir, "m.s"), filepath.Join(dir, "m.ko")
	text := `.section .modinfo,"a"` + "\n" + `.asciz "depends=nf_conntrack,x_tables"` + "\n" + `.asciz "softdep=pre: crc32c post: after"` + "\n"
	if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := output(exec.Command("cc", "-c", "-o", obj, src), nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(obj)
	if err != nil {
		t.Fatal(err)
	}
	if needs, err := moduleNeeds(b); err != nil || strings.Join(needs, " ") != "nf_conntrack x_tables crc32c" {
		t.Errorf("%q, %v", needs, err)
	}
}
