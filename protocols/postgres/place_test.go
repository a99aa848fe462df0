package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// positionOf is the position that an answer's error has, and its SQLSTATE.
func positionOf(t *testing.T, b []byte) (position int, code string) {
	t.Helper()
	for len(b) >= 5 {
		n := 1 + int(b[1])<<24 + int(b[2])<<16 + int(b[3])<<8 + int(b[4])
		if b[0] == 'E' {
			var e pgproto3.ErrorResponse
			if err := e.Decode(b[5:n]); err != nil {
				t.Fatal(err)
			}
			if e.InternalPosition != 0 || e.InternalQuery != "" {
				t.Errorf("an internal position: %+v", e)
			}
			return int(e.Position), e.Code
		}
		b = b[n:]
	}
	t.Fatal("there is no error")
	return 0, ""
}

// An error of a statement that the server was sent in other words is where it is
// in the client's own text, in characters, or nowhere.
func TestPositions(t *testing.T) {
	p := start(t, maskPolicy)
	d := directTo("postgres")
	through, err := postgrestest.Connect(t.Context(), p.dsn(""), "")
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	direct, err := postgrestest.Connect(t.Context(), d, "")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	long := strings.Repeat("/* so it goes */ ", 1000)
	for _, c := range []struct {
		sql  string
		want int // -1: what the server says without us; 0: nowhere
	}{
		{"SELECT nothing, ssn FROM clinic.patients", -1},
		{"SELECT 'Grüße, 世界 🙂', nothing FROM clinic.patients", -1},
		{"SELECT /* é */ p.ssn, p.nothing FROM clinic.patients p WHERE p.id = 1", -1},
		{"SELECT ssn, nothing, id FROM clinic.patients WHERE nothing = 1", -1},
		{"SELECT ssn FROM clinic.patients WHERE id = 1 AND nothing = 2", -1},
		{"SELECT ssn FROM clinic.patients WHERE nothing = 2 AND id = nothing", -1},
		{"SELECT name || 'é', id + city FROM clinic.patients", -1},
		{"SELECT ssn FROM clinic.patients WHERE city = 5", -1},
		{"SELECT ssn FROM clinic.patients WHERE id = 'abc'", -1},
		{"SELECT ssn, length(id) FROM clinic.patients", -1},
		{"SELECT ssn, \"Nothing\" FROM clinic.patients", -1},
		{"SELECT ssn, city FROM clinic.patients GROUP BY ssn", 0}, // the sub-select has one too
		{"SELECT 1; SELECT ssn, nothing FROM clinic.patients", -1},
		{"SELECT ssn FROM clinic.patients UNION SELECT id FROM clinic.encounters", -1},
		{"SELECT ssn, 1 / 0 FROM clinic.patients", 0},
		{"SELECT ssn::int FROM clinic.patients", 0},
		{"UPDATE clinic.patients SET visits = nothing WHERE id = 1", -1},
		{"SELECT ssn, same, same FROM clinic.patients", -1},
		{"SELECT ssn, same FROM clinic.patients" + long, 0},
	} {
		for _, way := range []postgrestest.Way{postgrestest.Simple, postgrestest.ExtendedText} {
			if way != postgrestest.Simple && strings.Contains(c.sql, "; ") {
				continue
			}
			got, code := positionOf(t, through.Send(t.Context(), way, c.sql).Received)
			want, wantCode := positionOf(t, direct.Send(t.Context(), way, c.sql).Received)
			if c.want >= 0 {
				want = c.want
			}
			if got != want || code != wantCode {
				t.Errorf("%v: %.100s: %s at %d, want %s at %d", way, c.sql, code, got, wantCode, want)
			}
		}
	}
}
