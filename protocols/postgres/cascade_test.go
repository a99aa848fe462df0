package postgres_test

import "testing"

// An update is of the rows that foreign keys change with it where it may change what
// these point to, and else only of its own.
func TestUpdatesAlongForeignKeys(t *testing.T) {
	_, agent, _ := defining(t, "wait: retry", `
		CREATE TABLE public.gold_a (id int PRIMARY KEY, other int UNIQUE, note text);
		CREATE TABLE public.gold_child (id int REFERENCES public.gold_a ON UPDATE CASCADE);
		CREATE TABLE public.gold_b (id int PRIMARY KEY, note text, twice int GENERATED ALWAYS AS (id * 2) STORED UNIQUE);
		CREATE TABLE public.gold (twice int REFERENCES public.gold_b (twice) ON DELETE CASCADE ON UPDATE NO ACTION);
		CREATE TABLE public.gold_c (id int PRIMARY KEY, seed int, note text, half int GENERATED ALWAYS AS (seed / 2) STORED UNIQUE);
		ALTER TABLE public.gold_child ADD half int REFERENCES public.gold_c (half) ON UPDATE CASCADE;
		CREATE TABLE public.gold_d (id int PRIMARY KEY, note text);
		ALTER TABLE public.gold_child ADD d int REFERENCES public.gold_d ON UPDATE CASCADE;
		CREATE FUNCTION public.gold_key() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 1; RETURN NEW; END';
		CREATE TRIGGER gold_key BEFORE UPDATE ON public.gold_d FOR EACH ROW EXECUTE FUNCTION public.gold_key();
		CREATE TABLE public.gold_e (id int, part int, note text) PARTITION BY LIST (part);
		CREATE TABLE public.gold_e1 PARTITION OF public.gold_e FOR VALUES IN (1);
		CREATE TABLE public.gold_e2 PARTITION OF public.gold_e FOR VALUES IN (2);
		ALTER TABLE public.gold_e1 ADD UNIQUE (id);
		ALTER TABLE public.gold_child ADD e int REFERENCES public.gold_e1 (id) ON DELETE CASCADE;
		CREATE TABLE public.gold_f (id int PRIMARY KEY);
		CREATE TABLE public.gold_g (f int PRIMARY KEY REFERENCES public.gold_f ON UPDATE CASCADE, note text);
		ALTER TABLE public.gold_child ADD g int REFERENCES public.gold_g ON UPDATE CASCADE`)
	asks := func(sql string) {
		t.Helper()
		_, err := agent.Exec(t.Context(), sql)
		refusedFor(t, err)
	}
	for _, sql := range []string{
		"UPDATE public.gold_a SET id = 1", "UPDATE public.gold_a SET note = '', id = 1", "UPDATE public.gold_a SET (note, id) = ('', 1)",
		"UPDATE public.gold_a SET (note, id) = (SELECT '', 1)",
		"INSERT INTO public.gold_a VALUES (1) ON CONFLICT (other) DO UPDATE SET id = 2",
		"WITH u AS (UPDATE public.gold_a SET id = 1) UPDATE public.gold_f SET id = id", "WITH u AS (UPDATE public.gold_b SET note = '') UPDATE public.gold_a SET id = 1",
		"UPDATE public.gold_c SET seed = 1", "UPDATE public.gold_c SET note = ''", // nobody says what it is computed from
		"UPDATE public.gold_e SET part = 2", "UPDATE public.gold_e SET (note, part) = ('', 2)", "UPDATE public.gold_e1 SET part = 2",
		"UPDATE public.gold_f SET id = 1", "UPDATE public.gold_g SET f = 1",
	} {
		asks(sql)
	}
	must(t, agent, "PREPARE gold AS UPDATE public.gold_a SET id = 1")
	asks("EXECUTE gold")
	must(t, agent, "PREPARE gold_note AS UPDATE public.gold_a SET note = ''")
	for _, harmless := range []string{
		"UPDATE public.gold_a SET note = ''", "UPDATE public.gold_a SET note = '', other = 7 WHERE id = 1",
		"INSERT INTO public.gold_a (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = ''",
		"WITH u AS (UPDATE public.gold_a SET note = '') UPDATE public.gold_g SET note = ''",
		"UPDATE public.gold_e SET note = ''", "UPDATE public.gold_e2 SET id = 2", "UPDATE public.gold_b SET note = ''", "UPDATE public.gold_g SET note = ''",
	} {
		must(t, agent, harmless)
	}
	// A trigger may change any column, if what it does is understood at all.
	if _, err := agent.Exec(t.Context(), "UPDATE public.gold_d SET note = ''"); err == nil {
		t.Error("a trigger changes the key of a relation to which a ruled one points, and nobody asked")
	}
}
