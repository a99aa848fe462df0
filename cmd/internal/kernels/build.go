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
	"time"
)

// doors is the run whose rows docs/doors.md shows.
const doors = "doors"

// runs are the tests' folders, and what their binaries get.
var runs = []struct {
	dir   string
	tests string // those that another kernel could answer otherwise; "": all
	args  []string
	env   []string
}{
	{dir: "intercept/redirect", tests: ofKernels},
	// An emulated machine needs longer to be sure that nothing arrives.
	{dir: "cmd/internal/" + doors, args: []string{"-rows"}, env: []string{"DOORS_ATTEMPTS=/attempts", "DOORS_PATIENCE=5s"}},
}

// ofKernels are the tests of each program and of each way in which one is
// attached, and of the parts. The others are about this side of the programs, and
// take an emulated machine longer than all of these.
const ofKernels = `^Test(HostHasAll|UpAdopts|PinsOfANewerLayoutAreRefused|PinsOfAnOlderLayoutAreReplaced|` +
	`Turned|PrefixesAndRanges|OtherWaysToConnect|SecondConnect\w*|StormMixesNothingUp|ConnectionIsItsMakers|NamespacesAreNotMixedUp|` +
	`NoDaemonNoWay|NewNamespaceHasNoWay|PortCannotBeSquatted|NamespaceHasItsShare|DoorsAreRefusedAndReported|CraftedPacketIsDropped|` +
	`SourceRoutedPacketIsDropped|InheritedConnection\w*|OlderConnectionIsSwept|RecordOfAShownSocket|PauseHandsOver|FullCoverCoversWhatIsAround|` +
	`Unix\w*|FramesAcrossAWire|NeighboursOfAWire|WiresComeAndGo)$`

// build makes this program, the test binaries and the doors' attempts, static,
// and lists the tests that each must have run.
func (d *driver) build(ctx context.Context) error {
	d.init = filepath.Join(d.tmp, "init")
	if err := static(ctx, "build", "-o", d.init, "./cmd/internal/kernels"); err != nil {
		return err
	}
	d.bins, d.tests = map[string]string{}, map[string][]string{}
	for _, r := range runs {
		name := filepath.Base(r.dir)
		bin := filepath.Join(d.tmp, name+".test")
		if err := static(ctx, "test", "-c", "-o", bin, "./"+r.dir); err != nil {
			return err
		}
		tests := d.test
		if tests == everything && r.tests != "" {
			tests = r.tests
		}
		var list string
		if err := output(exec.CommandContext(ctx, bin, "-test.list", tests), &list); err != nil {
			return err
		}
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, "Test") {
				d.tests[name] = append(d.tests[name], strings.TrimSpace(line))
			}
		}
		d.bins["tests/"+name] = bin
		args := []string{"/tests/" + name, "-test.v=test2json", "-test.run=" + tests, "-test.timeout=" + (machineLimit - time.Minute).String()}
		d.runs = append(d.runs, run{Name: name, Args: append(args, r.args...), Env: append(r.env, "SALLYPORT_TEST_ALL=1")})
	}
	return d.attempts(ctx)
}

// attempts compiles what knocks at the doors.
func (d *driver) attempts(ctx context.Context) error {
	sources, err := filepath.Glob("cmd/internal/doors/attempt/*.c")
	if err != nil || len(sources) == 0 {
		return errors.Join(err, errors.New("no attempts at the doors found: run this in the repository's folder"))
	}
	for _, src := range sources {
		name := strings.TrimSuffix(filepath.Base(src), ".c")
		bin := filepath.Join(d.tmp, "attempt-"+name)
		if err := output(exec.CommandContext(ctx, "cc", "-static", "-O1", "-Wall", "-Werror", "-o", bin, src), nil); err != nil {
			return err
		}
		d.bins["attempts/"+name] = bin
	}
	return nil
}

// doors holds what the machines found against docs/doors.md, or writes it there.
func (d *driver) doors(ctx context.Context) error {
	if !slices.Contains(d.tests[doors], "TestDoors") && !d.update {
		return nil // other tests were asked for
	}
	if len(d.rows) == 0 {
		return errors.New("no kernel has told what its doors lead to")
	}
	file := filepath.Join(d.tmp, "rows.jsonl")
	if err := os.WriteFile(file, d.rows, 0o644); err != nil {
		return err
	}
	args := []string{"-test.run=^TestDoors$", "-from", file}
	if d.update {
		args = append(args, "-update")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(d.tmp, doors+".test"), args...)
	cmd.Dir = "cmd/internal/" + doors
	if err := output(cmd, nil); err != nil {
		return fmt.Errorf("%w\n`go run ./cmd/internal/kernels -update` writes what was found", err)
	}
	d.passed++
	return nil
}

func static(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return output(cmd, nil)
}
