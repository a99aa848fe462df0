// Package doors holds the ways that lead, or could lead, from an agent to a
// protected server beside the passage, and what was measured of each.
//
// Its test opens every door: first without a guard, to prove that the attempt
// gets through, then with one, in each mode, with and without a daemon. What
// arrives decides, not what the attempt says of itself. The result is
// docs/doors.md, which the test holds against the kernel that it runs on.
package doors

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Answer is what became of an attempt. The zero Answer is none.
type Answer string

// The answers.
const (
	Redirected Answer = "redirected" // it arrived in the passage, with the kernel's record
	Refused    Answer = "refused"    // it arrived nowhere
	Passes     Answer = "passes"     // it arrived at the server
	Unverified Answer = "unverified" // it does not get through without a guard either
)

// Row is what was measured of one door in one mode on one kernel series.
type Row struct {
	Kernel string // series: major.minor
	Door   string
	Mode   string // "cgroup" or "host"
	Answer Answer
	Dead   Answer `json:",omitempty"` // the same with the daemon killed
	Why    string // one sentence
}

func (r *Row) key() [3]string { return [3]string{r.Kernel, r.Door, r.Mode} }

// ReadRows reads rows, one JSON object a line; other lines are passed over.
func ReadRows(r io.Reader) (rows []Row, err error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		var row Row
		if !strings.HasPrefix(s.Text(), `{"Kernel":`) {
			continue
		}
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			return nil, fmt.Errorf("rows: %w: %s", err, s.Text())
		}
		rows = append(rows, row)
	}
	return rows, s.Err()
}

// WriteRows writes rows as ReadRows reads them.
func WriteRows(w io.Writer, rows []Row) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("rows: %w", err)
		}
	}
	return nil
}

// Merge replaces the rows of each kernel series that fresh speaks of, and
// keeps the others.
func Merge(rows, fresh []Row) []Row {
	measured := map[string]bool{}
	for _, r := range fresh {
		measured[r.Kernel] = true
	}
	out := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return measured[r.Kernel] })
	out = append(out, fresh...)
	slices.SortStableFunc(out, func(a, b Row) int { return compareKernels(a.Kernel, b.Kernel) })
	return out
}

// Differ tells, a line each, where fresh rows differ from those that stand for
// their kernel series. Series that rows do not speak of differ in nothing.
func Differ(rows, fresh []Row) (lines []string) {
	stand := map[[3]string]Row{}
	known := map[string]bool{}
	for _, r := range rows {
		stand[r.key()] = r
		known[r.Kernel] = true
	}
	for _, r := range fresh {
		if !known[r.Kernel] {
			continue
		}
		if old, ok := stand[r.key()]; !ok {
			lines = append(lines, fmt.Sprintf("kernel %s, mode %s: %s: new: %s", r.Kernel, r.Mode, r.Door, r))
		} else if old != r {
			lines = append(lines, fmt.Sprintf("kernel %s, mode %s: %s: was %s; is %s", r.Kernel, r.Mode, r.Door, old, r))
		}
		delete(stand, r.key())
	}
	measured := map[string]bool{}
	for _, r := range fresh {
		measured[r.Kernel] = true
	}
	for _, r := range rows {
		if _, left := stand[r.key()]; left && measured[r.Kernel] {
			lines = append(lines, fmt.Sprintf("kernel %s, mode %s: %s: gone", r.Kernel, r.Mode, r.Door))
		}
	}
	return lines
}

// String writes what was measured.
func (r Row) String() string {
	s := string(r.Answer)
	if r.Dead != "" && r.Dead != Refused {
		s += ", " + string(r.Dead) + " with the daemon dead"
	}
	return s + " (" + r.Why + ")"
}

func compareKernels(a, b string) int {
	number := func(s string) (n [2]int) {
		major, minor, _ := strings.Cut(s, ".")
		n[0], _ = strconv.Atoi(major)
		n[1], _ = strconv.Atoi(minor)
		return n
	}
	x, y := number(a), number(b)
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
}
