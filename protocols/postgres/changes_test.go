package postgres_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// dbaPolicy relays what the DBA says as it is, and analyses what agents say.
var dbaPolicy = strings.ReplaceAll(maskPolicy, `identity: "*"`, `identity: {workload: agent}`) + `
  - name: dba
    effect: allow
    identity: {workload: dba}
    resource: "*"
    commands: ["*"]
    relations: ["*.*"]
`

// dba opens a passage whose first session is the DBA's, and returns it with one of
// an agent's. Nothing looks at the catalog but for a reason.
func dba(t *testing.T) (p *proxy, admin, agent *raw) {
	t.Helper()
	p = open(t, dbaPolicy, protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		id.Workload = "agent"
		if n == 1 {
			id.Workload = "dba"
		}
	}})
	return p, p.raw(), p.raw()
}

// What one session defines through the passage every other goes by from the moment
// in which it is told to have happened.
func TestOthersChanges(t *testing.T) {
	const (
		replace = "CREATE OR REPLACE VIEW telling AS SELECT id, ssn AS city FROM clinic.patients"
		inDO    = "DO $$BEGIN EXECUTE '" + replace + "'; END$$"
		look    = "SELECT city FROM telling WHERE id = 1"
	)
	sql(t, "CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$BEGIN EXECUTE '"+replace+"'; COMMIT; END$$",
		"CREATE FUNCTION func() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE '"+replace+"'; RETURN 1; END$$")
	defer sql(t, "DROP VIEW IF EXISTS telling", "DROP PROCEDURE proc", "DROP FUNCTION func")
	says := func(texts ...string) (out [][]message) {
		for _, s := range texts {
			out = append(out, []message{q(s)})
		}
		return out
	}
	for name, say := range map[string][][]message{
		"simple":             says(replace),
		"extended":           {extended(replace)},
		"prepared":           {{parse("p", replace), sync_}, {bind("", "p"), execute(""), sync_}},
		"in a text":          says("SELECT 1; " + replace + "; SELECT 2"),
		"transaction":        says("BEGIN", replace, "SELECT 1", "COMMIT"),
		"in one batch":       {{parse("", "BEGIN"), bind("", ""), execute(""), parse("", replace), bind("", ""), execute(""), parse("", "COMMIT"), bind("", ""), execute(""), sync_}},
		"savepoint":          says("BEGIN", "SAVEPOINT s", replace, "RELEASE s", "END"),
		"chained":            says("BEGIN", replace, "COMMIT AND CHAIN"),
		"DO":                 says(inDO),
		"procedure":          says("CALL proc()"),
		"function":           says("SELECT func()"),
		"function, extended": {extended("select public . func ( )")},
		"function from":      says("WITH f AS (SELECT * FROM func()) SELECT count(*) FROM f"),
		"EXECUTE":            says("PREPARE e AS SELECT func()", "EXECUTE e"),
		"two phases":         says("BEGIN", replace, "PREPARE TRANSACTION 'changes'", "COMMIT PREPARED 'changes'"),
		"a column's name":    says("BEGIN; ALTER TABLE clinic.patients RENAME ssn TO x; ALTER TABLE clinic.patients RENAME city TO ssn; ALTER TABLE clinic.patients RENAME x TO city; COMMIT"),
		"a table's name":     says("ALTER TABLE clinic.patients RENAME TO ill; DROP VIEW telling; CREATE VIEW telling AS SELECT id, ssn AS city FROM clinic.ill"),
		"another schema":     says("ALTER TABLE clinic.patients SET SCHEMA public; DROP VIEW telling; CREATE VIEW telling AS SELECT id, ssn AS city FROM public.patients"),
	} {
		t.Run(name, func(t *testing.T) {
			sql(t, "DROP VIEW IF EXISTS telling", "CREATE VIEW telling AS SELECT id, city FROM clinic.patients")
			defer sql(t, "DROP VIEW IF EXISTS telling", undoChanges)
			if name == "a column's name" {
				sql(t, "DROP VIEW telling", "CREATE VIEW telling AS SELECT id, 'x' AS city FROM clinic.patients")
			}
			_, admin, agent := dba(t)
			defer admin.Close()
			defer agent.Close()
			before := agent.ask(2, parse("s", look), sync_, q(look))
			if strings.Contains(before, "E S") || strings.Contains(before, "911") {
				t.Fatal(before)
			}
			for i, m := range say {
				out := admin.ask(1, m...)
				if strings.Contains(out, "E S") {
					t.Fatal(out)
				}
				if i < len(say)-1 && name == "transaction" {
					if out := agent.ask(1, q("SELECT a FROM m0")); !strings.Contains(out, "m0") {
						t.Errorf("before its end: %s", out)
					}
				}
			}
			reads := look
			if name == "a column's name" {
				reads = "SELECT city FROM clinic.patients WHERE id = 1"
			}
			out := agent.ask(1, q(reads)) + agent.ask(1, bind("", "s"), execute(""), sync_) + agent.ask(1, extended(reads)...)
			if strings.Contains(out, "911") {
				t.Errorf("what is protected came out: %s", out)
			}
			if !strings.Contains(out, "***-**-0001") && !strings.Contains(out, "sallyport: refused") {
				t.Errorf("nothing has changed: %s", out)
			}
			if name == "chained" {
				admin.ask(1, q("ROLLBACK"))
			}
		})
	}
}

// undoChanges gives the clinic its names back.
const undoChanges = `DO $$BEGIN
 IF to_regclass('public.patients') IS NOT NULL THEN ALTER TABLE public.patients SET SCHEMA clinic; END IF;
 IF to_regclass('clinic.ill') IS NOT NULL THEN ALTER TABLE clinic.ill RENAME TO patients; END IF;
 IF (SELECT attnum FROM pg_attribute WHERE attrelid = 'clinic.patients'::regclass AND attname = 'ssn') >
  (SELECT attnum FROM pg_attribute WHERE attrelid = 'clinic.patients'::regclass AND attname = 'city') THEN
  ALTER TABLE clinic.patients RENAME ssn TO x; ALTER TABLE clinic.patients RENAME city TO ssn; ALTER TABLE clinic.patients RENAME x TO city;
 END IF; END$$`

// What a session defined that has gone the next one knows of.
func TestOthersChangesAreKept(t *testing.T) {
	sql(t, "CREATE VIEW telling AS SELECT id, city FROM clinic.patients")
	defer sql(t, "DROP VIEW telling")
	p, admin, agent := dba(t)
	agent.ask(1, q("SELECT city FROM telling"))
	agent.Close()
	if out := admin.ask(1, q("CREATE OR REPLACE VIEW telling AS SELECT id, ssn AS city FROM clinic.patients")); strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	admin.Close()
	next := p.raw()
	defer next.Close()
	if out := next.ask(1, q("SELECT city FROM telling WHERE id = 1")); !strings.Contains(out, "***-**-0001") {
		t.Errorf("%s", out)
	}
}
