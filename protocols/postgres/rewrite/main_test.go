package rewrite_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

var (
	socket string // of the test's server
	pool   *parser.Pool
)

func TestMain(m *testing.M) {
	if parser.IsChild() {
		os.Exit(parser.Main())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, stop, err := startServer()
	if err != nil {
		println("start PostgreSQL:", err.Error())
		return 1
	}
	defer stop()
	socket = dir
	if pool, err = parser.New(parser.Options{Size: 3}); err != nil {
		println(err.Error())
		return 1
	}
	defer pool.Close()
	return m.Run()
}

// startServer starts a throwaway server with the clinic in it, on a socket.
func startServer() (dir string, stop func(), err error) {
	dir, err = os.MkdirTemp("", "rewrite")
	if err != nil {
		return "", nil, err
	}
	cmd := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(postgrestest.Bin+name, args...)
		c.Dir = dir
		c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		return c
	}
	clean := func() { os.RemoveAll(dir) }
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			return "", clean, err
		}
	}
	data := filepath.Join(dir, "d")
	if out, err := cmd("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8").CombinedOutput(); err != nil {
		clean()
		return "", nil, &failed{out, err}
	}
	if out, err := cmd("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o",
		"-c listen_addresses='' -c fsync=off -c max_connections=50 -k "+dir, "start").CombinedOutput(); err != nil {
		clean()
		return "", nil, &failed{out, err}
	}
	stop = func() {
		_ = cmd("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop").Run()
		clean()
	}
	schema, err := os.ReadFile(attacks + "clinic.sql")
	if err == nil {
		var c *pgconn.PgConn
		if c, err = pgconn.Connect(context.Background(), "host="+dir+" user=postgres dbname=postgres"); err == nil {
			_, err = c.Exec(context.Background(), "CREATE ROLE agent LOGIN SUPERUSER;"+
				"CREATE ROLE sallyport_catalog LOGIN;"+postgrestest.Schema(string(schema))).ReadAll()
			c.Close(context.Background())
		}
	}
	if err != nil {
		stop()
		return "", nil, err
	}
	return dir, stop, nil
}

type failed struct {
	out []byte
	err error
}

func (f *failed) Error() string { return f.err.Error() + ": " + string(f.out) }

func openCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(socket, ".s.PGSQL.5432"))
		},
		User: "sallyport_catalog", Database: "postgres",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newAnalyzer(t testing.TB) *rewrite.Analyzer {
	t.Helper()
	return rewrite.New(rewrite.Options{Parser: pool, Catalog: openCatalog(t)})
}

func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), "host="+socket+" user=agent dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// masked is what the clinic's policy protects from its agents.
func masked() *policy.Scope {
	return &policy.Scope{ID: "masked", Static: true, Masks: map[policy.Relation]map[string]policy.Mask{
		{Schema: "clinic", Name: "patients"}: {
			"name":       {Kind: "redact"},
			"ssn":        {Kind: "partial", Last: 0},
			"birth_date": {Kind: "year"},
			"phone":      {Kind: "null"},
			"email":      {Kind: "redact", Constant: "hidden@example.org"},
		},
		{Schema: "clinic", Name: "claims_1"}: {"ssn": {Kind: "null"}},
		{Schema: "clinic", Name: "policies"}: {"holder": {Kind: "redact"}},
		{Schema: "clinic", Name: "members"}:  {"pin": {Kind: "redact"}},
		{Schema: "clinic", Name: "guarded"}:  {"pin": {Kind: "redact"}},
		{Schema: "clinic", Name: "staff"}:    {"pin": {Kind: "redact"}},
		{Schema: "clinic", Name: "keywords"}: {"system_user": {Kind: "redact"}},
		{Schema: "clinic", Name: "virtual"}:  {"secret": {Kind: "redact"}},
		{Schema: "clinic", Name: "stays"}: {
			"during": {Kind: "redact"}, "words": {Kind: "redact"}, "doc": {Kind: "redact"}, "spot": {Kind: "redact", Constant: "(0,0)"},
		},
		{Schema: "clinic", Name: "donors"}:     {"name": {Kind: "redact"}},
		{Schema: "clinic", Name: "donated"}:    {"name": {Kind: "redact"}},
		{Schema: "clinic", Name: "bands"}:      {"weight": {Kind: "null"}},
		{Schema: "clinic", Name: "doses"}:      {"most": {Kind: "null"}},
		{Schema: "clinic", Name: "rates"}:      {"most": {Kind: "null"}},
		{Schema: "clinic", Name: "ratios"}:     {"most": {Kind: "null"}},
		{Schema: "clinic", Name: "booked"}:     {"most": {Kind: "null"}},
		{Schema: "clinic", Name: "contents"}:   {"box": {Kind: "null"}},
		{Schema: "clinic", Name: "titles"}:     {"name": {Kind: "redact"}},
		{Schema: "clinic", Name: "slips"}:      {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "stamps"}:     {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "seals"}:      {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "graded"}:     {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "shaded"}:     {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "secrets"}:    {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "minted"}:     {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "coined"}:     {"code": {Kind: "redact"}},
		{Schema: "clinic", Name: "leases"}:     {"tenant": {Kind: "null"}},
		{Schema: "clinic", Name: "sublet"}:     {"tenant": {Kind: "null"}},
		{Schema: "clinic", Name: "unenforced"}: {"pin": {Kind: "redact"}},
		{Schema: "clinic", Name: "accounts"}:   {"number": {Kind: "redact", Match: true}},
	}}
}
