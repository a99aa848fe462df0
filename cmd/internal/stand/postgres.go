package stand

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed clinic.sql
var clinic string

// Postgres is a throwaway server with the clinic in it. Agents reach it on
// Addr; its unix socket is in a folder of its own account's.
type Postgres struct {
	Addr     netip.AddrPort
	Database string // with the clinic
	User     string // of agents
	Password string

	s       *Stand
	as      User
	dir     string
	catalog string // password of sallyport_catalog
	proc    *process
}

// findPostgres returns the folder of a server's programs: of version 15 where
// it is there, else of the newest.
func findPostgres() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	for _, f := range found {
		if strings.Contains(f, "/15/") {
			return filepath.Dir(f), nil
		}
	}
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql-15 postgresql-client-15")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

func (s *Stand) startPostgres(ctx context.Context) (*Postgres, error) {
	p := &Postgres{s: s, Database: "clinic", User: "agent", Password: rand.Text(), catalog: rand.Text(), dir: filepath.Join(s.Dir, "pg")}
	var err error
	if p.as, err = account("postgres", "nobody"); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	if err := folder(p.dir, p.as, 0o700); err != nil {
		return nil, err
	}
	data := filepath.Join(p.dir, "data")
	if _, err := s.tool(ctx, &p.as, nil, filepath.Join(s.pgBin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"); err != nil {
		return nil, err
	}
	// Only the server's own account and root reach the socket.
	hba := append(slices.Clone(s.o.HBA), "local all all trust", "host all all 127.0.0.0/8 scram-sha-256")
	if err := give(filepath.Join(data, "pg_hba.conf"), p.as, []byte(strings.Join(hba, "\n")+"\n")); err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

func (p *Postgres) start(ctx context.Context) error {
	args := []string{"-D", filepath.Join(p.dir, "data")}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	set("listen_addresses", strings.Join(append([]string{p.Addr.Addr().String()}, p.s.o.Listen...), ","))
	set("port", strconv.Itoa(int(p.Addr.Port())))
	set("unix_socket_directories", p.dir)
	set("max_connections", strconv.Itoa(p.s.o.MaxConnections))
	set("fsync", "off") // it lives as long as the stand
	set("full_page_writes", "off")
	set("synchronous_commit", "off")
	set("max_wal_size", "1GB")
	if p.s.o.ServerLog {
		set("logging_collector", "on")
		set("log_destination", "csvlog")
		set("log_filename", "server.log")
		set("log_timezone", "UTC")
		set("log_connections", "on")
		set("log_statement", "all")
	}
	var err error
	if p.proc, err = p.s.launch("postgresql", &p.as, nil, filepath.Join(p.s.pgBin, "postgres"), args...); err != nil {
		return err
	}
	if err := p.proc.ready(ctx, 2*time.Minute, func(ctx context.Context) error { return p.Exec(ctx, "postgres", "") }); err != nil {
		return err
	}
	if err := p.Exec(ctx, "postgres", "CREATE DATABASE "+p.Database); err != nil {
		return err
	}
	return p.Exec(ctx, p.Database, strings.NewReplacer("{{patients}}", strconv.Itoa(p.s.o.Patients),
		"{{password}}", p.Password, "{{catalog}}", p.catalog).Replace(clinic))
}

// Admin returns the connection string of the superuser, for root: through the
// socket, past everything.
func (p *Postgres) Admin(database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", p.dir, p.Addr.Port(), database)
}

// Exec runs statements as the superuser.
func (p *Postgres) Exec(ctx context.Context, database, sql string) error {
	c, err := pgconn.Connect(ctx, p.Admin(database))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, sql).ReadAll()
	return err
}

// PID returns the server's process id.
func (p *Postgres) PID() int { return p.proc.cmd.Process.Pid }

// environ makes an unmodified client find the clinic.
func (p *Postgres) environ() []string {
	return []string{
		"PGHOST=" + p.Addr.Addr().String(), "PGPORT=" + strconv.Itoa(int(p.Addr.Port())),
		"PGDATABASE=" + p.Database, "PGUSER=" + p.User, "PGPASSWORD=" + p.Password, "PGCONNECT_TIMEOUT=10",
	}
}

func (p *Postgres) stop() error {
	if p == nil {
		return nil
	}
	err := p.proc.stop(syscall.SIGINT, time.Minute) // fast shutdown
	return errors.Join(err, os.RemoveAll(p.dir))
}
