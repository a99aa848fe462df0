package rewrite

import (
	"slices"

	"sallyport.dev/sallyport/policy"
)

// plain reports that planning the statement runs nothing but functions that are built
// in, on relations of this database: the planner computes what is immutable, and for
// its guesses what is stable, of the statement and of the definitions that it goes
// through; for a foreign table it may ask another server.
func (w *walker) plain() bool {
	if w.opaque != "" || w.calls || w.local || w.unknown || len(w.scope.Functions) > 0 || len(w.commands) == 0 {
		return false
	}
	for _, c := range w.commands {
		if !slices.Contains([]string{"select", "insert", "update", "delete", "merge"}, c) {
			return false
		}
	}
	remote := false
	look := func(o policy.Object) {
		for _, r := range w.snap.ByName[o.Name] {
			remote = remote || r.Schema == o.Schema && r.Kind == 'f'
		}
	}
	for _, o := range w.objects {
		look(o)
		w.eachKin(o, look)
	}
	return !remote
}
