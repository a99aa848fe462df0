package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// manyRelations are 10,000 relations: tables with keys, checks, defaults and
// references, and views of them.
const manyRelations = `CREATE ROLE sallyport_catalog LOGIN;
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN
 FOR i IN 0..8999 LOOP
  IF i % 100 = 0 THEN
   COMMIT;
   EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, name text, note text)', i);
  ELSE
   EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, hub int REFERENCES t%s, name text NOT NULL DEFAULT ''x'', at timestamptz DEFAULT now(), n numeric(8,2) CHECK (n > 0), note text)', i, i/100*100);
  END IF;
  IF i % 9 = 8 THEN
   EXECUTE format('CREATE VIEW v%s AS SELECT t.id, t.name, hub.note FROM t%s t JOIN t%s hub ON hub.id = t.id WHERE t.id > 1', i, i, i/100*100);
  END IF;
 END LOOP; END $$`

// runCatalog prints what the snapshot of a catalog of 10,000 relations costs: the
// first one, and what keeps it up to date.
func runCatalog(ctx context.Context, rounds int) (err error) {
	server, err := postgrestest.Start(manyRelations)
	if err != nil {
		return err
	}
	defer server.Stop()
	for _, sql := range []string{"CALL fill()", "VACUUM ANALYZE"} {
		if err := server.Exec(ctx, sql); err != nil {
			return err
		}
	}
	admin, err := pgconn.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	var c *catalog.Catalog
	defer func() {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	refresh := func() error { return c.Refresh(ctx) }
	fmt.Printf("### catalog of 10,000 relations\n\n| what | ms | CPU of the server, ms | CPU of the passage, ms |\n|---|---:|---:|---:|\n")
	for _, l := range []struct {
		name, sql string // run before
		connects  bool
		do        func() error
	}{
		{"the first snapshot, with its connection", "", true, func() (err error) {
			if c != nil {
				if err := c.Close(); err != nil {
					return err
				}
			}
			c, err = catalog.Open(ctx, catalog.Options{
				Dial: func(ctx context.Context) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, "tcp", server.Addr.String())
				},
				User: "sallyport_catalog", Database: "postgres",
			})
			return err
		}},
		{"a look where no transaction has ended", "", false, refresh},
		{"a look where one has ended that wrote rows", "SELECT pg_current_xact_id()", false, refresh},
		{"a look after a table was altered", "ALTER TABLE t4242 ADD COLUMN added text DEFAULT 'x', DROP COLUMN note; ALTER TABLE t4242 RENAME added TO note", false, refresh},
	} {
		var wall, theirs, ours []float64
		for range max(rounds, 3) {
			if l.sql != "" {
				if _, err := admin.Exec(ctx, l.sql).ReadAll(); err != nil {
					return err
				}
			}
			before, err := catalogCPU(ctx, admin)
			if err != nil {
				return err
			}
			own, began := selfTime(), time.Now()
			if err := l.do(); err != nil {
				return err
			}
			took, used := time.Since(began), selfTime()-own
			after, err := catalogCPU(ctx, admin)
			if err != nil {
				return err
			}
			if l.connects {
				before = 0 // of another process
			}
			wall, ours, theirs = append(wall, ms(took)), append(ours, ms(used)), append(theirs, ms(after-before))
		}
		fmt.Printf("| %s | %.1f | %.1f | %.1f |\n", l.name, median(wall), median(theirs), median(ours))
	}
	fmt.Println()
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// catalogCPU is the processor time that the side connection's process has used.
func catalogCPU(ctx context.Context, admin *pgconn.PgConn) (time.Duration, error) {
	rs, err := admin.Exec(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name = 'sallyport catalog' ORDER BY backend_start DESC LIMIT 1").ReadAll()
	if err != nil {
		return 0, err
	}
	if len(rs[0].Rows) == 0 {
		return 0, nil // not there yet
	}
	b, err := os.ReadFile("/proc/" + string(rs[0].Rows[0][0]) + "/schedstat") // its first number, in ns
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(n), err
}

func selfTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
