package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const inBand = "TOKEN-IN-BAND"

// presents takes one token, of agent-a.
func presents(a *protocols.Account) func(context.Context, []byte) (intercept.Identity, *protocols.Account, error) {
	return func(_ context.Context, token []byte) (intercept.Identity, *protocols.Account, error) {
		if string(token) != inBand {
			return intercept.Identity{}, nil, &protocols.Unproved{Rule: "identity", Reason: "it does not verify", Remedy: "send a valid one"}
		}
		return intercept.Identity{Workload: "agent", Subject: "agent-a", Proof: "oidc", Expires: time.Now().Add(time.Hour)}, a, nil
	}
}

// A client's password is its token: the passage asks for it, in clear on this
// host and inside of TLS, and neither the server nor the record ever has it.
func TestTokenAsPassword(t *testing.T) {
	s, _ := brokerServer(t)
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, password, settings, want string }{
		{"clear", inBand, "sslmode=disable", "scram\n"},
		{"TLS", inBand, "sslmode=verify-full", "scram\n"},
		{"another", inBand + "x", "sslmode=disable", "FATAL:  sallyport: refused: it does not verify"},
		{"another in TLS", "x" + inBand, "sslmode=verify-full", "HINT:  send a valid one"},
		{"huge", inBand + strings.Repeat("x", 64<<10), "sslmode=disable", "it does not verify"},
		{"none", "", "sslmode=disable", "no password supplied"},
	} {
		v := &vaultOf{user: "scram", password: upstream}
		to := &tap{}
		p := open(t, allowAll, protocoltest.Options{Dial: to.dial(dialTLS(s.Addr, nil)), Present: presents(v.account(protocols.Mutual)), TLS: host.config(t, "127.0.0.1")})
		out := secured(t, p, "user="+claimed+" password='"+c.password+"' sslrootcert="+ca+" "+c.settings, "SELECT session_user")
		in := c.want == "scram\n"
		if in && out != c.want || !strings.Contains(out, c.want) {
			t.Errorf("%s: %q", c.name, out)
		}
		if said := to.String(); strings.Contains(said, inBand) || strings.Contains(said, claimed) || !in && said != "" {
			t.Errorf("%s: the server was told %q", c.name, said)
		}
		if err := p.End(); (err == nil) != in || err != nil && strings.Contains(err.Error(), inBand) {
			t.Errorf("%s: it ended with %v", c.name, err)
		}
		login := p.Journal.Events(events.Login)
		if c.name == "none" {
			if len(login) != 0 {
				t.Errorf("nobody's login: %+v", login)
			}
			continue
		}
		if len(login) != 1 || (login[0].Verdict == events.Blocked) == in || login[0].Session.User != claimed || (login[0].Session.Actor == "agent-a") != in || strings.Contains(login[0].Reason, inBand) {
			t.Errorf("%s: %+v", c.name, login)
		}
		if !in && (login[0].Rules[0] != "identity" || len(v.asked) != 0) {
			t.Errorf("%s: %+v, the account was asked for %d times", c.name, login[0], len(v.asked))
		}
	}
}

// Another client speaks the same, and its statements can be cancelled by its own
// process, from which no token comes with a cancel request.
func TestTokenOfPgx(t *testing.T) {
	p := open(t, allowAll, protocoltest.Options{Present: presents(nil)})
	if _, err := pgconn.Connect(t.Context(), p.dsn("password=x")); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("another token: %v", err)
	}
	c, err := pgconn.Connect(t.Context(), p.dsn("password="+inBand))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	time.AfterFunc(300*time.Millisecond, func() { _ = c.CancelRequest(context.Background()) })
	began := time.Now()
	_, err = c.Exec(t.Context(), "SELECT pg_sleep(120)").ReadAll()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57014" || time.Since(began) > time.Minute {
		t.Errorf("cancelled: %v", err)
	}
}

// A server that asks for a password itself never gets the token.
func TestTokenIsNotForTheServer(t *testing.T) {
	s, _ := brokerServer(t)
	for _, user := range []string{"scram", "hashed", "plain"} {
		to := &tap{}
		p := open(t, allowAll, protocoltest.Options{Dial: to.dial(dialTLS(s.Addr, nil)), Present: presents(nil)})
		out := secured(t, p, "sslmode=disable user="+user+" password="+inBand, "SELECT 1")
		if !strings.Contains(out, "FATAL:  sallyport: the server asks for a password") || !strings.Contains(out, "resources[].accounts") {
			t.Errorf("%s: %q", user, out)
		}
		if said := to.String(); bytes.Count([]byte(said), []byte("p\x00")) > 0 && strings.Contains(said, inBand) || strings.Contains(said, inBand) || strings.Contains(said, "SCRAM") {
			t.Errorf("%s: the server was told %q", user, said)
		}
	}
}

// What is no password message, or is cut off, lets nobody in.
func TestTokenGarbled(t *testing.T) {
	message := func(typ byte, body string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body))), body...)
	}
	hello := append([]byte{0, 0, 0, 0, 0, 3, 0, 0}, "user\x00agent\x00\x00"...)
	binary.BigEndian.PutUint32(hello, uint32(len(hello)))
	for name, b := range map[string][]byte{
		"no end":            message('p', inBand),
		"something behind":  message('p', inBand+"\x00more\x00"),
		"a statement":       message('Q', "SELECT 1\x00"),
		"too large":         {'p', 0, 16, 0, 0},
		"impossible length": {'p', 0, 0, 0, 1},
	} {
		to := &tap{}
		p := open(t, allowAll, protocoltest.Options{Dial: to.dial(dialServer), Present: presents(nil)})
		c := p.Dial()
		if _, err := c.Write(append(bytes.Clone(hello), b...)); err != nil {
			t.Fatal(err)
		}
		if err := p.End(); err == nil || strings.Contains(err.Error(), inBand) {
			t.Errorf("%s: %v", name, err)
		}
		if said := to.String(); said != "" {
			t.Errorf("%s: the server was told %q", name, said)
		}
	}
}
