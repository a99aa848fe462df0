package postgres_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// spoken is the corpus without what is said in messages or when connecting.
func spoken(all []postgrestest.Attack) (out []postgrestest.Attack) {
	for _, a := range all {
		if a.Login == "" && a.Statements[0][0] != '>' {
			out = append(out, a)
		}
	}
	return out
}

// psycopg has psycopg hold the conversations, and returns what it made of each.
func psycopg(t *testing.T, dsn string, all []postgrestest.Attack) []string {
	t.Helper()
	job := struct {
		DSN        string
		Statements [][]string
	}{DSN: dsn}
	for _, a := range all {
		job.Statements = append(job.Statements, named(a.Statements, dsn))
	}
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	var out []json.RawMessage
	b := drive(t, exec.Command("/usr/bin/python3", "-B", "testdata/drivers/conversations.py"), in)
	if err := json.Unmarshal(b, &out); err != nil || len(out) != len(all) {
		t.Fatalf("%d answers of %d: %v: %s", len(out), len(all), err, b[max(0, len(b)-500):])
	}
	seen := make([]string, len(out))
	for i, b := range out {
		seen[i] = string(b)
	}
	return seen
}

// psqls has one psql hold the conversations, each in a session of its own.
func psqls(t *testing.T, dsn string, all []postgrestest.Attack) []string {
	t.Helper()
	var in bytes.Buffer
	const mark = "==== the next one"
	for _, a := range all {
		fmt.Fprintf(&in, "\\c -\n\\echo %s\n", mark)
		for _, s := range named(a.Statements, dsn) {
			// psql reads on where a quote is open, and COPY's rows from here.
			if !strings.Contains(s, `'\'`) && !strings.Contains(strings.ToUpper(s), "FROM STDIN") {
				fmt.Fprintf(&in, "%s\n\\g\n", s)
			}
		}
	}
	out := drive(t, exec.Command("/usr/bin/psql", "-X", "-q", dsn), in.Bytes())
	seen := strings.Split(string(out), mark+"\n")[1:]
	if len(seen) != len(all) {
		t.Fatalf("%d answers of %d", len(seen), len(all))
	}
	return seen
}

func named(statements []string, dsn string) []string {
	_, database, _ := strings.Cut(dsn, " dbname="+clinic)
	out := make([]string, len(statements))
	for i, s := range statements {
		out[i] = strings.ReplaceAll(s, "{database}", clinic+database)
	}
	return out
}

// drive runs a driver and returns all that it printed.
func drive(t *testing.T, cmd *exec.Cmd, in []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8", "PGOPTIONS="}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &out
	if err := cmd.Run(); err != nil && out.Len() == 0 {
		t.Fatal(err)
	}
	return out.Bytes()
}

// testDrivers holds the corpus through a passage by drivers that nobody
// changed, each in its own dialect.
func testDrivers(t *testing.T, through string, attacks, harmless []postgrestest.Attack) {
	attacks, harmless = spoken(attacks), spoken(harmless)
	for _, d := range []struct {
		name string
		hold func(*testing.T, string, []postgrestest.Attack) []string
	}{{"psycopg", psycopg}, {"psql", psqls}} {
		t.Run(d.name, func(t *testing.T) {
			got, want := d.hold(t, through, harmless), d.hold(t, directTo(clinic), harmless)
			for i := range harmless {
				if got[i] != want[i] || strings.Contains(got[i], "sallyport") {
					t.Errorf("%s: through:\n%s\ndirect:\n%s", harmless[i].Name, got[i], want[i])
				}
			}
			for i, seen := range d.hold(t, through, attacks) {
				a := &attacks[i]
				if l := postgrestest.Planted([]byte(seen), a.Statements...); l != "" {
					t.Errorf("%s: a planted value: %s", a.Name, l)
				}
				if a.Want == "refused" && !strings.Contains(seen, "sallyport: refused") && !strings.Contains(strings.Join(a.Statements, " "), "; ") {
					t.Errorf("%s: not refused:\n%s", a.Name, seen)
				}
			}
		})
	}
}
