package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// parts are what each kernel must have shown: without a passed test of each, a
// kernel has failed even if nothing else has.
var parts = []struct {
	name string
	test *regexp.Regexp // run, a dot, the test's name
}{
	{"load", regexp.MustCompile(`^redirect\.Test(UpAdopts|HostHasAll)$`)},
	{"redirect", regexp.MustCompile(`^redirect\.TestTurned$`)},
	{"callers", regexp.MustCompile(`^redirect\.Test(StormMixesNothingUp|ConnectionIsItsMakers)$`)},
	{"fail closed", regexp.MustCompile(`^redirect\.TestNoDaemonNoWay$`)},
	{"doors", regexp.MustCompile(`^doors\.TestDoors$`)},
}

// lacking are the tests that a kernel older than that may skip: it has not got
// what they are about.
var lacking = []lack{
	{regexp.MustCompile(`^redirect\.TestUnix`), [2]int{6, 7}}, // hooks of unix sockets
}

type lack struct {
	test  *regexp.Regexp
	since [2]int // the first that has it
}

func mayLack(series, test string) bool {
	var has [2]int
	_, err := fmt.Sscanf(series, "%d.%d", &has[0], &has[1])
	return err == nil && slices.ContainsFunc(lacking, func(l lack) bool {
		return l.test.MatchString(test) && slices.Compare(has[:], l.since[:]) < 0
	})
}

// A verdict is what one kernel has come to.
type verdict struct {
	release string            // that the machine named
	results map[string]string // PASS, FAIL, SKIP by run.Test
	lines   map[string][]string
	exits   map[string]int
	errors  []string
	rows    []byte // what the doors lead to: lines of JSON, see cmd/internal/doors
}

func newVerdict() *verdict {
	return &verdict{results: map[string]string{}, lines: map[string][]string{}, exits: map[string]int{}}
}

// mark stands before what the test framework itself prints (see the flag
// test.v=test2json of cmd/test2json).
const mark = "\x16"

var ended = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\w+) \(`)

func (v *verdict) take(r report) {
	switch {
	case r.Kernel != "":
		v.release = r.Kernel
	case r.Error != "":
		v.errors = append(v.errors, r.Error)
	case r.Exit != nil:
		v.exits[r.Run] = *r.Exit
	case r.Line != "":
		before, said, framework := strings.Cut(r.Line, mark)
		if !framework {
			said, before = before, ""
		}
		if before != "" {
			v.lines[r.Run] = append(v.lines[r.Run], before)
		}
		v.lines[r.Run] = append(v.lines[r.Run], said)
		if r.Run == doors && strings.HasPrefix(said, `{"Kernel":`) {
			v.rows = append(append(v.rows, said...), '\n')
		}
		if m := ended.FindStringSubmatch(said); framework && m != nil {
			v.results[r.Run+"."+m[2]] = m[1]
		}
	}
}

// judge holds the verdict against the kernel that was meant and the tests that
// its binaries have, by run. It returns how many passed, and what did not.
func (v *verdict) judge(series string, tests map[string][]string) (passed int, wrong []string) {
	wrong = slices.Clone(v.errors)
	if !strings.HasPrefix(v.release, series+".") {
		wrong = append(wrong, fmt.Sprintf("the kernel is %q, not %s", v.release, series))
	}
	for run, names := range tests {
		failed := len(wrong)
		for _, name := range names {
			switch result := v.results[run+"."+name]; {
			case result == "PASS":
				passed++
			case result == "SKIP" && mayLack(series, run+"."+name):
			case result != "":
				wrong = append(wrong, fmt.Sprintf("%s.%s: %s\n%s", run, name, result, v.said(run, name)))
			default:
				wrong = append(wrong, fmt.Sprintf("%s.%s did not run to its end\n%s", run, name, v.said(run, name)))
			}
		}
		if code, ok := v.exits[run]; (!ok || code != 0) && failed == len(wrong) {
			wrong = append(wrong, fmt.Sprintf("%s: exit code %d\n%s", run, code, tail(strings.Join(v.lines[run], "\n"), 20)))
		}
	}
	return passed, wrong
}

// missing are the parts that no test has shown.
func (v *verdict) missing() (out []string) {
	for _, p := range parts {
		shown := false
		for test, result := range v.results {
			shown = shown || result == "PASS" && p.test.MatchString(test)
		}
		if !shown {
			out = append(out, fmt.Sprintf("no test of %q has passed", p.name))
		}
	}
	return out
}

// said is what was printed from a test's start on, up to the next one's.
func (v *verdict) said(run, test string) string {
	var out []string
	in := false
	for _, line := range v.lines[run] {
		if name, ok := strings.CutPrefix(line, "=== RUN   "); ok {
			in = name == test || strings.HasPrefix(name, test+"/")
		}
		if in {
			out = append(out, line)
		}
	}
	return tail(strings.Join(out, "\n"), 60)
}
