package all_test

import (
	"slices"
	"testing"

	"sallyport.dev/sallyport/protocols/all"
)

// A protocol is found by the name that it gives itself.
func TestNames(t *testing.T) {
	ps := all.New(all.Host{})
	if names := all.Names(); len(names) != len(ps) || !slices.Contains(names, "postgres") || !slices.IsSorted(names) {
		t.Errorf("%v", names)
	}
	for name, p := range ps {
		if p.Name() != name {
			t.Errorf("%q calls itself %q", name, p.Name())
		}
	}
}
