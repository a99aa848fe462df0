package postgres_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

func connect(t testing.TB, p *proxy, more string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), p.dsn(more))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func psql(t testing.TB, p *proxy, args ...string) string {
	t.Helper()
	cmd := exec.Command("psql", append([]string{p.dsn("application_name=psql"), "-X"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

func TestMaskedSelect(t *testing.T) {
	p := start(t, maskPolicy)
	out := psql(t, p, "-At", "-c", "SELECT id, name, ssn, birth_date, email, city FROM clinic.patients WHERE id = 1")
	if want := "1|[redacted]|***-**-0001|1951-01-01||Boston\n"; out != want {
		t.Fatalf("got %q, want %q", out, want)
	}
	st := p.settled().Events(events.Statement)
	if len(st) != 1 || st[0].Verdict != events.Mask || len(st[0].Masked) != 4 {
		t.Fatalf("%+v", st)
	}
	if tr := p.Journal.Transcript(events.ChunkResult); !strings.Contains(tr, "***-**-0001") || strings.Contains(tr, "CANARY") {
		t.Fatalf("transcript %q", tr)
	}
}

// A policy that names a column of a view protects that besides what the view
// passes through.
func TestMaskOfAView(t *testing.T) {
	p := start(t, maskPolicy+"      clinic.v_patients.city: redact\n      clinic.m_patients.name: redact\n      clinic.v_nested.note: redact\n")
	for sql, want := range map[string]string{
		"SELECT * FROM clinic.v_patients WHERE id = 1": "1|[redacted]|***-**-0001|[redacted]\n",
		"SELECT * FROM clinic.m_patients WHERE id = 1": "1|[redacted]|***-**-0001\n",
		"SELECT * FROM clinic.v_nested LIMIT 1":        "***-**-0001|[redacted]\n",
	} {
		if got := psql(t, p, "-At", "-c", sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func TestRefusalLeavesTheSessionUsable(t *testing.T) {
	p := start(t, maskPolicy)
	out := psql(t, p, "-At", "-c", "DELETE FROM clinic.patients", "-c", "SELECT count(*) FROM clinic.patients")
	for _, want := range []string{"no-deletes", "never deleted", "administrator", "\n5\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}

// A syntax error is the client's to read; the event quotes nothing of the text.
func TestSyntaxErrorsStayOffTheRecord(t *testing.T) {
	p := start(t, maskPolicy)
	out := psql(t, p, "-At", "-c", "SELECT 'x' FROM clinic.patients WHERE ssn = 5 'CANARY-1'")
	if !strings.Contains(out, "syntax error at or near") {
		t.Errorf("the client reads %q", out)
	}
	ev := p.settled().Events(events.Block)
	if len(ev) != 1 || !strings.Contains(ev[0].Reason, "not understood") || strings.Contains(ev[0].Reason, "CANARY") {
		t.Errorf("recorded: %+v", ev)
	}
}

func TestExtended(t *testing.T) {
	p := start(t, maskPolicy)
	c := connect(t, p, "")
	for range 3 {
		var name, ssn string
		if err := c.QueryRow(t.Context(), "SELECT name, ssn FROM clinic.patients WHERE id = $1", 2).Scan(&name, &ssn); err != nil {
			t.Fatal(err)
		}
		if name != "[redacted]" || ssn != "***-**-0002" {
			t.Fatal(name, ssn)
		}
	}
	if n := len(p.settled().Events(events.Statement)); n != 3 {
		t.Fatalf("%d statements", n)
	}
	if n := len(p.settled().Events(events.Response)); n != 3 {
		t.Fatalf("%d responses", n)
	}
}
