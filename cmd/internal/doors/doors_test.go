package doors_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/doors"
)

var (
	old = []doors.Row{
		{Kernel: "6.1", Door: "a", Mode: "cgroup", Answer: doors.Refused, Dead: doors.Refused, Why: "hook"},
		{Kernel: "6.1", Door: "a", Mode: "host", Answer: doors.Unverified, Why: "none"},
		{Kernel: "6.12", Door: "a", Mode: "cgroup", Answer: doors.Refused, Dead: doors.Refused, Why: "hook"},
		{Kernel: "6.12", Door: "b", Mode: "cgroup", Answer: doors.Redirected, Dead: doors.Refused, Why: "hook"},
	}
	page1 = []doors.Group{{Title: "Some", Doors: []doors.Door{{Name: "a", How: "how a"}, {Name: "b", How: "how b"}}}}
)

func TestRowsSurviveTheFile(t *testing.T) {
	var b bytes.Buffer
	if err := doors.WriteRows(&b, old); err != nil {
		t.Fatal(err)
	}
	got, err := doors.ReadRows(strings.NewReader("=== RUN\n" + b.String() + "PASS\n"))
	if err != nil || !reflect.DeepEqual(got, old) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := doors.ReadRows(strings.NewReader(`{"Kernel":6}`)); err == nil {
		t.Error("a broken row was read")
	}
}

// Rows of other kernels stay; what differs, is new or is gone is told.
func TestRowsOfOneKernelAreReplaced(t *testing.T) {
	fresh := []doors.Row{
		{Kernel: "6.12", Door: "a", Mode: "cgroup", Answer: doors.Passes, Dead: doors.Passes, Why: "out of scope"},
		{Kernel: "6.12", Door: "c", Mode: "cgroup", Answer: doors.Refused, Dead: doors.Refused, Why: "hook"},
		{Kernel: "6.2", Door: "a", Mode: "cgroup", Answer: doors.Refused, Dead: doors.Refused, Why: "hook"},
	}
	diff := doors.Differ(old, fresh)
	for i, want := range []string{"a: was refused", "c: new", "b: gone"} {
		if i >= len(diff) || !strings.Contains(diff[i], want) || !strings.Contains(diff[i], "6.12") {
			t.Fatalf("%d: %q, want %q", i, diff, want)
		}
	}
	if len(diff) != 3 {
		t.Errorf("%q", diff)
	}
	merged := doors.Merge(old, fresh)
	if len(merged) != 5 || merged[0] != old[0] || merged[1] != old[1] || merged[2] != fresh[2] || merged[3] != fresh[0] {
		t.Errorf("%v", merged)
	}
	if diff := doors.Differ(merged, fresh); len(diff) > 0 {
		t.Errorf("after merging: %q", diff)
	}
}

func TestDocument(t *testing.T) {
	text := doors.Document(page1, old)
	for _, want := range []string{
		"| door | mode | 6.1 | 6.12 | why |\n|---|---|---|---|---|\n",
		"| **a**: how a | cgroup | refused | refused | hook |\n|  | host | unverified | - | none |\n",
		"| **b**: how b | cgroup | - | redirected | hook |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text[strings.Index(text, "## Some"):])
		}
	}
}
