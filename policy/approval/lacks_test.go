package approval_test

import (
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// Whoever only hears of the steps knows when enough people have approved.
func TestStepsTellWhatIsLacking(t *testing.T) {
	w := newWorld(t)
	two := rule(func(a *policy.Approval) { a.Count = 2 })
	_, id := w.consume(asked(two))
	for _, who := range []string{"dr-lee", "dr-may"} {
		if err := w.approve(id, func(p *approval.Proof) { p.Subject = who }); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]int{"requested": {2}, "seen": {2}, "approved": {1, 0}}
	for _, e := range w.events {
		if left := want[e.Step]; len(left) == 0 || left[0] != e.Lacks {
			t.Errorf("%s: %d are lacking, want %v", e.Step, e.Lacks, left)
		} else {
			want[e.Step] = left[1:]
		}
	}
}
