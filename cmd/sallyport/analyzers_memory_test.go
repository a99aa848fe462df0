package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
)

// What is renamed while nobody uses a database is known when somebody does again.
func TestNamesOutliveAnIdleCatalog(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic+"; create table visits (id int)")
	a, _ := analyzersOf(t, server, "watcher", func(a *analyzers) { a.idle = time.Millisecond })
	use := func(do func(q *analyzer)) {
		t.Helper()
		q, release, err := a.get(context.Background(), "clinic", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		do(q.(*analyzer))
		release()
		within(t, "the catalog is dropped", func() bool { return a.count() == 0 })
	}
	use(func(q *analyzer) {
		if _, err := analyze(t, q, "select ssn from patients"); err != nil {
			t.Fatal(err)
		}
	})
	asAdmin(t, server, "alter table visits rename to stays; alter table patients rename to ill")
	was := policy.Object{Schema: "public", Name: "visits", Access: policy.Read}
	for range 2 { // and the time after that
		use(func(q *analyzer) {
			if an, err := analyze(t, q, "select id from stays"); err != nil || !slices.Contains(an.Kin, was) {
				t.Errorf("%+v %v", an, err)
			}
			if an, err := analyze(t, q, "select ssn from ill"); err != nil || an.Opaque == "" {
				t.Errorf("it is no longer protected: %+v %v", an, err)
			}
		})
	}
}
