package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/intercept/broker/baotest"
	"sallyport.dev/sallyport/intercept/broker/vault"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

var server *postgrestest.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	server, err = postgrestest.Start("CREATE ROLE vault SUPERUSER LOGIN PASSWORD 'vault-secret'; CREATE ROLE reports LOGIN PASSWORD 'first'")
	if err == nil {
		defer server.Stop()
		_, err = server.Authenticate("host all all 127.0.0.1/32 scram-sha-256\n")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const life = 4 // of leases, in seconds

// bao starts an OpenBao with the database, and a client of it.
func bao(t *testing.T) (*baotest.Server, *vault.Client, *broker.Store) {
	t.Helper()
	s := baotest.Start(t)
	s.Database(t, fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/postgres?sslmode=disable", server.Addr), "vault", "vault-secret", life)
	store := &broker.Store{}
	store.Replace(map[string][]byte{"token": []byte(s.Token + "\n")})
	return s, &vault.Client{Address: s.Address, Store: store, TokenFile: "token"}, store
}

func login(t *testing.T, c broker.Credential) error {
	t.Helper()
	p, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres sslmode=disable user=%s password=%s", server.Addr.Port(), c.User, c.Password))
	if err == nil {
		p.Close(t.Context())
	}
	return err
}

func accounts(t *testing.T) (n int) {
	t.Helper()
	p, err := pgconn.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	rs, err := p.Exec(t.Context(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Sscan(string(rs[0].Rows[0][0]), &n)
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%s: not in time", what)
}

// A session's own account is made up for it, and gone behind it.
func TestPerSession(t *testing.T) {
	_, client, _ := bao(t)
	s := &vault.Source{Client: client, Path: "database/creds/billing", PerSession: true, Fail: func(err error) { t.Error(err) }}
	a, err := s.Credential(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Credential(t.Context(), "", 0)
	if err != nil || a.User == b.User || a.Version == b.Version {
		t.Fatalf("%v: %q and %q", err, a.User, b.User)
	}
	if err := errors.Join(login(t, a), login(t, b)); err != nil {
		t.Error(err)
	}
	a.Release()
	eventually(t, "the account is given back", func() bool { return login(t, a) != nil })
	// The other's lease is over by now, but for its renewals.
	time.Sleep(time.Duration(life+1) * time.Second)
	if err := login(t, b); err != nil {
		t.Errorf("while its session lasts: %v", err)
	}
	b.Release()
	s.Close(t.Context())
	if n := accounts(t); n != 0 {
		t.Errorf("%d accounts are left", n)
	}
}

// A shared account is asked for once, however many come, and is good for as long
// as one of them is there.
func TestShared(t *testing.T) {
	_, client, _ := bao(t)
	s := &vault.Source{Client: client, Path: "database/creds/billing", Fail: func(err error) { t.Error(err) }}
	var mu sync.Mutex
	var all []broker.Credential
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c, err := s.Credential(t.Context(), "", 0)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
		})
	}
	wg.Wait()
	if n := accounts(t); n != 1 {
		t.Fatalf("%d accounts for 200 sessions", n)
	}
	// Refused, another one is had: once for all who were refused.
	next, err := s.Credential(t.Context(), "", all[0].Version)
	if err != nil || next.User == all[0].User {
		t.Fatal(err)
	}
	same, err := s.Credential(t.Context(), "", all[0].Version)
	if err != nil || same.User != next.User {
		t.Fatal(err)
	}
	for _, c := range all[1:] {
		c.Release()
	}
	time.Sleep(100 * time.Millisecond)
	if err := login(t, all[0]); err != nil {
		t.Errorf("while one session uses it: %v", err)
	}
	all[0].Release()
	eventually(t, "the first account is given back", func() bool { return login(t, all[0]) != nil })
	next.Release()
	same.Release()
	if err := login(t, next); err != nil {
		t.Errorf("between two sessions: %v", err)
	}
	s.Close(t.Context())
	if n := accounts(t); n != 0 {
		t.Errorf("%d accounts are left", n)
	}
}

// An account that the server rotates is asked for again when it is refused.
func TestStatic(t *testing.T) {
	b, client, _ := bao(t)
	s := &vault.Source{Client: client, Path: "database/static-creds/reports"}
	c, err := s.Credential(t.Context(), "", 0)
	if err != nil || c.User != "reports" {
		t.Fatalf("%v %q", err, c.User)
	}
	if err := login(t, c); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Credential(t.Context(), "", c.Version); !errors.Is(err, broker.ErrUnchanged) {
		t.Errorf("nothing was rotated: %v", err)
	}
	b.Write(t, "database/rotate-role/reports", nil)
	if login(t, c) == nil {
		t.Fatal("the old password is good")
	}
	now, err := s.Credential(t.Context(), "", c.Version)
	if err != nil {
		t.Fatal(err)
	}
	if err := login(t, now); err != nil {
		t.Error(err)
	}
	s.Close(t.Context())
}

// The client logs in by AppRole, and again when its token is refused.
func TestAppRole(t *testing.T) {
	b, _, store := bao(t)
	b.Write(t, "sys/auth/approle", map[string]any{"type": "approle"})
	b.Write(t, "sys/policies/acl/sallyport", map[string]any{"policy": `path "database/creds/billing" { capabilities = ["read"] } path "sys/leases/*" { capabilities = ["update"] }`})
	b.Write(t, "auth/approle/role/sallyport", map[string]any{"token_policies": "sallyport", "token_ttl": "1h"})
	role := b.Read(t, "auth/approle/role/sallyport/role-id")
	secret := b.Write(t, "auth/approle/role/sallyport/secret-id", nil)
	store.Replace(map[string][]byte{"secret-id": []byte(secret["secret_id"].(string) + "\n")})
	client := &vault.Client{Address: b.Address, Store: store, RoleID: role["role_id"].(string), SecretIDFile: "secret-id"}
	s := &vault.Source{Client: client, Path: "database/creds/billing", PerSession: true, Fail: func(err error) { t.Error(err) }}
	defer s.Close(context.Background())
	for range 2 {
		c, err := s.Credential(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		c.Release()
		for _, a := range b.List(t, "auth/token/accessors") { // all tokens but root's
			if who := b.Write(t, "auth/token/lookup-accessor", map[string]any{"accessor": a}); slices.Contains(who["policies"].([]any), any("sallyport")) {
				b.Write(t, "auth/token/revoke-accessor", map[string]any{"accessor": a})
			}
		}
	}
	other := &vault.Source{Client: client, Path: "database/creds/nobody"}
	if _, err := other.Credential(t.Context(), "", 0); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a path that is not the client's: %v", err)
	}
}
