package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// The public corpus, with its clinic; here it goes through the whole passage.
// That its attempts work where there is none, package postgres shows.
const corpus = "../../../protocols/postgres/testdata/attacks/"

// corpusStand has that clinic, in a database of its own, and an agent that is
// the superuser: nothing but policy is in its way.
func corpusStand(t *testing.T) *stand.Stand {
	t.Helper()
	policy, err := os.ReadFile(corpus + "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(corpus + "clinic.sql")
	if err != nil {
		t.Fatal(err)
	}
	return startStand(t, stand.Options{Policy: policy, NoRecorder: true, Patients: 1, Prepare: func(ctx context.Context, s *stand.Stand) error {
		if err := s.PG.Exec(ctx, "postgres", "ALTER ROLE agent SUPERUSER"); err != nil {
			return err
		}
		if err := s.PG.Exec(ctx, "postgres", "CREATE DATABASE corpus"); err != nil {
			return err
		}
		s.PG.Database = "corpus"
		return s.PG.Exec(ctx, "corpus", postgrestest.Schema(string(schema)))
	}})
}

// clients makes a copy of this program that agents can run, and returns its
// name in their path.
func clients(t *testing.T) string {
	t.Helper()
	const name = "client"
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	f, err := os.OpenFile(filepath.Join(bin, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, self)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// hold has a client hold conversations.
func hold(t *testing.T, cmd *exec.Cmd, in []postgrestest.Conversation) []postgrestest.Reply {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out, msg bytes.Buffer
	cmd.Env = append(cmd.Env, clientEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(b), &out, &msg
	if err := stand.Run(cmd); err != nil {
		t.Fatalf("%v: %s", err, msg.String())
	}
	var replies []postgrestest.Reply
	if err := json.Unmarshal(out.Bytes(), &replies); err != nil || len(replies) != len(in) {
		t.Fatalf("%d replies of %d: %v", len(replies), len(in), err)
	}
	return replies
}

// TestCorpus runs one server for all of it.
func TestCorpus(t *testing.T) {
	s, self := corpusStand(t), clients(t)
	through := func(t *testing.T, in []postgrestest.Conversation) []postgrestest.Reply {
		return hold(t, s.Guarded(t.Context(), s.Agents["agent-a"], self), in)
	}
	attacks, err := postgrestest.Attacks(corpus, "[0-9]*.sql")
	if err != nil {
		t.Fatal(err)
	}
	harmless, err := postgrestest.Attacks(corpus, "harmless.sql")
	if err != nil {
		t.Fatal(err)
	}

	harmless = slices.DeleteFunc(harmless, func(a postgrestest.Attack) bool { return !a.Known() })

	// What touches nothing protected comes back byte for byte as without us.
	t.Run("harmless", func(t *testing.T) {
		in, _ := inTurn(harmless)
		next := nextOID(t, s)
		cmd, err := s.Direct(t.Context(), s.Agents["agent-a"], self)
		if err != nil {
			t.Fatal(err)
		}
		got, want := through(t, in), hold(t, cmd, in)
		for i, c := range in {
			if err := got[i].Same(&want[i], next); err != nil {
				t.Errorf("%s/%v: %v", c.Name, c.Way, err)
			}
		}
	})

	// Whatever an agent sends, no byte of what comes back is of a protected value.
	t.Run("attacks", func(t *testing.T) {
		in, of := inTurn(attacks)
		for i, r := range through(t, in) {
			t.Run(fmt.Sprintf("%s/%v", in[i].Name, in[i].Way), func(t *testing.T) {
				if err := of[i].Holds(in[i].Way, &r); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// inTurn has every second one said in binary, if it can be: all of the ways are
// the business of the session's own tests.
func inTurn(all []postgrestest.Attack) (in []postgrestest.Conversation, of []*postgrestest.Attack) {
	for i := range all {
		one := all[i : i+1]
		c, a := postgrestest.Conversations(one, postgrestest.ExtendedBinary)
		if i%2 == 0 || len(c) == 0 {
			c, a = postgrestest.Conversations(one, postgrestest.Simple)
		}
		in, of = append(in, c...), append(of, a...)
	}
	return in, of
}

// nextOID returns a number above those of all relations that there are.
func nextOID(t *testing.T, s *stand.Stand) uint32 {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), s.PG.Admin(s.PG.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	r := c.ExecParams(t.Context(), "SELECT max(oid) FROM pg_class", nil, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	n, err := strconv.ParseUint(string(r.Rows[0][0]), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n) + 1
}
