package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A rule about a relation is about the rows that it shares: those of its partitions
// and children, by whatever name, and those that are a parent's too.
func TestRulesFollowRows(t *testing.T) {
	admin, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE public.kin_parent (a int);
		CREATE TABLE public.kin_list (a int, b text) PARTITION BY LIST (a);
		CREATE TABLE public.kin_one PARTITION OF public.kin_list FOR VALUES IN (1);
		CREATE TABLE public.kin_heir () INHERITS (public.asked);
		ALTER TABLE public.t2 INHERIT public.kin_parent;
		GRANT ALL ON public.kin_parent, public.kin_list, public.kin_one, public.kin_heir TO agent`)
	t.Cleanup(func() {
		admin, err := pgx.Connect(context.Background(), server.DSN("postgres"))
		if err == nil {
			_, err = admin.Exec(context.Background(), "ALTER TABLE public.t2 NO INHERIT public.kin_parent; DROP TABLE public.kin_parent, public.kin_list, public.kin_heir")
			admin.Close(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	a := newAsking(t, "wait: retry")
	c := connect(t, a.proxy, "default_query_exec_mode=simple_protocol")
	for _, sql := range []string{
		"INSERT INTO public.kin_heir VALUES (1, 'never approved')", // rows of a child are its parent's
		"UPDATE public.kin_parent SET a = 1",                       // and those of a parent its child's
		"UPDATE ONLY public.asked SET a = a",
	} {
		_, err := c.Exec(t.Context(), sql)
		refusedFor(t, err)
	}
	if _, err := c.Exec(t.Context(), "INSERT INTO public.kin_one VALUES (1, 'nobody asks')"); err != nil {
		t.Error(err)
	}
}
