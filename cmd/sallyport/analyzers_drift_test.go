package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

// A protected column is known by its numbers: another name, or another relation in
// its place, does not unprotect it, and is told of once.
func TestDriftByName(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, "create role watcher login")
	n := 0
	for name, c := range map[string]struct{ change, read string }{
		"a column is renamed":      {"alter table patients rename ssn to number", "select number from patients"},
		"a column is dropped":      {"alter table patients drop ssn", "select id from patients"},
		"columns change places":    {"alter table patients rename ssn to x; alter table patients rename id to ssn; alter table patients rename x to id", "select id from patients"},
		"a table is renamed":       {"alter table patients rename to ill", "select ssn from ill"},
		"... and another made":     {"alter table patients rename to ill; create table patients (id int)", "select id from patients"},
		"the schema has its name":  {"alter schema public rename to old", "select ssn from old.patients"},
		"a table is moved":         {"create schema other; alter table patients set schema other", "select ssn from other.patients"},
		"the column comes back":    {"alter table patients drop ssn; alter table patients add ssn text", ""},
		"the table is as it was":   {"alter table patients add note text", ""},
		"another has a like name":  {"create table ssn (ssn text)", ""},
		"a temporary one shadows":  {"create table patients2 (id int); create temp table patients (id int)", ""},
		"another schema comes up ": {"create schema early; create table early.patients (id int)", ""},
	} {
		t.Run(strings.TrimSpace(name), func(t *testing.T) {
			n++
			database := fmt.Sprint("drift", n)
			asAdmin(t, server, "create database "+database)
			db, err := pgx.Connect(t.Context(), "postgres://postgres@"+server+"/"+database+"?sslmode=disable")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close(context.Background())
			do := func(sql string) {
				t.Helper()
				if _, err := db.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
			do("create table patients (id int primary key, ssn text)")
			var mu sync.Mutex
			var drift []*events.Event
			a, _ := analyzersOf(t, server, "watcher", func(a *analyzers) {
				a.drift = func(e *events.Event) {
					mu.Lock()
					defer mu.Unlock()
					drift = append(drift, e)
				}
			})
			q, release, err := a.get(context.Background(), "clinic", database)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if an, err := analyze(t, q, "select ssn from patients"); err != nil || an.SQL == "" {
				t.Fatalf("%+v %v", an, err)
			}
			do(c.change)
			for range 2 {
				if err := q.Refresh(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if c.read != "" {
				if an, err := analyze(t, q, c.read); err != nil || an.Opaque == "" {
					t.Errorf("%s: %+v %v", c.read, an, err)
				}
			} else if an, err := analyze(t, q, "select ssn from public.patients"); err != nil || an.SQL == "" && an.Opaque == "" {
				t.Errorf("it is no longer protected: %+v %v", an, err)
			}
			mu.Lock()
			defer mu.Unlock()
			want := 0
			if strings.Contains(name, "column is") || strings.Contains(name, "places") || strings.Contains(name, "made") {
				want = 1
			}
			if len(drift) != want {
				t.Errorf("%d events: %+v", len(drift), drift)
			}
		})
	}
}
