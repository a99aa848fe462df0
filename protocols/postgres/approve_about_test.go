package postgres_test

import "testing"

// Who is asked is told which relation the rule is on where the statement names another
// one, and through which it is reached.
func TestApproverIsToldWhichRelation(t *testing.T) {
	a, agent, owner := defining(t, "wait: retry", `
		CREATE TABLE public.gold_top (a int);
		CREATE TABLE public.gold (a int PRIMARY KEY) INHERITS (public.gold_top);
		CREATE TABLE public.gold_heir () INHERITS (public.gold);
		CREATE TABLE public.gold_far (id int PRIMARY KEY);
		CREATE TABLE public.gold_between (id int PRIMARY KEY REFERENCES public.gold_far ON DELETE CASCADE);
		CREATE TABLE public.gold_child (id int REFERENCES public.gold_between ON DELETE CASCADE)`)
	for _, c := range [][3]string{
		{"UPDATE public.gold SET a = 1", "update public.gold", ""},
		{"INSERT INTO public.gold_heir VALUES (1)", "insert public.gold", "insert public.gold_heir"},
		{"UPDATE public.gold_top SET a = 1", "update public.gold", "update public.gold_top"},
		{"DELETE FROM public.gold_far", "delete public.gold_child", "delete public.gold_far"},
	} {
		_, err := agent.Exec(t.Context(), c[0])
		e, err := a.book.Show(refusedFor(t, err))
		if err != nil || e.What.About != c[1] || e.What.Through != c[2] {
			t.Errorf("%s: %q through %q %v", c[0], e.What.About, e.What.Through, err)
		}
	}
	must(t, owner, "ALTER TABLE public.gold RENAME TO gold_brass")
	_, err := agent.Exec(t.Context(), "UPDATE public.gold_brass SET a = 1")
	if e, err := a.book.Show(refusedFor(t, err)); err != nil || e.What.About != "update public.gold" || e.What.Through != "update public.gold_brass" {
		t.Errorf("%q through %q %v", e.What.About, e.What.Through, err)
	}
}
