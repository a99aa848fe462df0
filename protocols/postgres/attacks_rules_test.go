package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// rulesOf are those that a file of the corpus is tried under.
func rulesOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(attacks + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tried has each attempt work without a passage, and come to nothing through one, in
// every way: the one that passage makes for it.
func tried(t *testing.T, file string, least int, passage func(t *testing.T, a *postgrestest.Attack) *proxy) {
	t.Helper()
	all := readAttacks(t, file)
	if len(all) < least {
		t.Errorf("%d attempts", len(all))
	}
	for i := range all {
		a := &all[i]
		t.Run(a.Name, func(t *testing.T) {
			direct := postgrestest.Conversation{Name: a.Name, Statements: a.Statements, Undo: changes.MatchString(strings.Join(a.Statements, "\n"))}
			got := postgrestest.Converse(t.Context(), directTo("postgres"), &direct)
			if err := a.Works(&got, &postgrestest.Reply{}); err != nil {
				t.Error(err)
			}
			p := passage(t, a)
			in, _ := postgrestest.Conversations(all[i:i+1], postgrestest.Ways...)
			for j := range in {
				got := postgrestest.Converse(t.Context(), p.dsn(""), &in[j])
				if err := a.Holds(in[j].Way, &got); err != nil {
					t.Error(fmt.Errorf("%v: %w", in[j].Way, err))
				}
			}
		})
	}
}

// TestApprovalAttacks: with what was approved nothing else can be done.
func TestApprovalAttacks(t *testing.T) {
	tried(t, "approvals.sql", 20, func(t *testing.T, of *postgrestest.Attack) *proxy {
		a := askingOf(start(t, rulesOf(t, "approvals.yaml")))
		c := connect(t, a.proxy, "default_query_exec_mode=simple_protocol")
		given := 0
		for _, sql := range of.Approved {
			_, err := c.Exec(t.Context(), sql)
			if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == "SPA01" {
				a.decide(refusedFor(t, err), approval.Approve)
				given++
			} else if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		if given == 0 && !strings.Contains(of.Name, "what is masked") {
			t.Error("nothing of it needs an approval")
		}
		return a.proxy
	})
}

// TestSubjectAttacks: no row goes out without its being told whose it is.
func TestSubjectAttacks(t *testing.T) {
	tried(t, "subjects.sql", 15, func(t *testing.T, _ *postgrestest.Attack) *proxy {
		return start(t, rulesOf(t, "subjects.yaml"))
	})
}
