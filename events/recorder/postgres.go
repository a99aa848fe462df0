package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events/recorder/transcripts"
	"sallyport.dev/sallyport/internal/loopback"
)

// postgres is the dialect of a store in a schema of a PostgreSQL database, 13 or
// newer.
var postgres = dialect{
	snapshot: sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead},
	write:    sql.TxOptions{Isolation: sql.LevelReadCommitted}, // each statement sees what those had committed that it waited for
	lock:     pgLock,
	layout:   pgCheckLayout,
	sound:    pgSound,
	copyTo:   pgCopy,
}

// pgSchema is where the store is, unless its URL has a search_path.
const pgSchema = "sallyport"

// IsURL reports whether a store is named by a postgres:// URL; else it is a folder.
func IsURL(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

// pgConfig reads a store's URL. Errors do not repeat it.
func pgConfig(store string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(store)
	if err != nil {
		return nil, errors.New("the URL of the store can't be read: see the section on connection URIs in the manual of PostgreSQL")
	}
	q := u.Query()
	if _, given := u.User.Password(); given || q.Has("password") || q.Has("sslpassword") {
		return nil, errors.New("a password in the URL of the store is seen by everybody who lists processes: put it in a file (passfile=FILE in the URL, or ~/.pgpass), or in PGPASSWORD")
	}
	c, err := pgx.ParseConfig(store)
	if err != nil {
		return nil, errors.New("the URL of the store can't be used: one of its options, or a file that they name, is wrong (see the section on connection URIs in the manual of PostgreSQL)")
	}
	if q.Get("sslmode") != "disable" {
		for _, f := range append([]*pgconn.FallbackConfig{{Host: c.Host, TLSConfig: c.TLSConfig}}, c.Fallbacks...) {
			if f.TLSConfig == nil && !near(f.Host) {
				return nil, fmt.Errorf("evidence would go to %s in clear: add sslmode=verify-full to the URL of the store (and sslrootcert=FILE), or sslmode=disable where nobody else is on the way", f.Host)
			}
		}
	}
	schema := pgSchema
	if path := c.RuntimeParams["search_path"]; path != "" {
		schema = path
	}
	// No other schema can stand in front: pg_catalog does by itself, pg_temp would.
	c.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize() + ", pg_temp"
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "sallyport-recorder"
	}
	// A server that is cut off would hold a transaction for a quarter of an hour.
	d := net.Dialer{Timeout: c.ConnectTimeout, KeepAlive: 15 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000) // of a socket in the file system: none
		})
	}}
	if d.Timeout == 0 {
		d.Timeout = 30 * time.Second
	}
	c.DialFunc = d.DialContext
	return c, nil
}

// near reports whether a host is this one.
func near(host string) bool {
	return strings.HasPrefix(host, "/") || loopback.Host(host)
}

func pgConnect(store string, ready func(context.Context, *pgx.Conn) error) (*sql.DB, string, error) {
	c, err := pgConfig(store)
	if err != nil {
		return nil, "", fmt.Errorf("recorder: store: %w", err)
	}
	schema, _, _ := strings.Cut(c.RuntimeParams["search_path"], ", pg_temp")
	db := sql.OpenDB(pgConnector{stdlib.GetConnector(*c, stdlib.OptionAfterConnect(ready))})
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db, schema, nil
}

// durable refuses a server that forgets what it has confirmed, and has this
// connection wait for what it writes.
func durable(ctx context.Context, c *pgx.Conn) error {
	var fsync, commit string
	if err := c.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit); err != nil {
		return err
	}
	if fsync != "on" {
		return errors.New("this server runs with fsync = off, and would lose evidence that it has confirmed: turn it on")
	}
	if commit == "off" {
		_, err := c.Exec(ctx, `SET synchronous_commit = on`)
		return err
	}
	return nil
}

func openPostgres(ctx context.Context, store string) (*DB, error) {
	db, schema, err := pgConnect(store, durable)
	if err != nil {
		return nil, err
	}
	if err := pgMigrate(ctx, db, schema, pgCheckLayout); err != nil {
		db.Close()
		return nil, fmt.Errorf("recorder: store in PostgreSQL: %w", err)
	}
	return &DB{db: db, kind: &postgres}, nil
}

// openPostgresReader opens a store that is there; only is that nothing is written, nor locked.
func openPostgresReader(store string, only bool) (*DB, error) {
	db, _, err := pgConnect(store, func(ctx context.Context, c *pgx.Conn) (err error) {
		if only {
			_, err = c.Exec(ctx, `SET default_transaction_read_only = on`)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := current(db); err != nil {
		db.Close()
		return nil, fmt.Errorf("recorder: store in PostgreSQL: %w", err)
	}
	// Until KeepTranscripts says where they are, those that are kept apart are nowhere.
	return &DB{db: db, kind: &postgres, apart: &Transcripts{Store: transcripts.OpenFiles(os.DevNull)}}, nil
}

// pgMigrate makes the schema where there is none, and brings it to the newest form.
// Unless check takes the result, its tables are not changed.
func pgMigrate(ctx context.Context, db *sql.DB, schema string, check func(context.Context, *sql.Tx) error) (err error) {
	// Two recorders that start together get in each other's way here, and nowhere else.
	for range 3 {
		if err = pgBegin(ctx, db, schema); err == nil {
			break
		}
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "23505" && e.Code != "42P06" && e.Code != "42P07" {
			return err
		}
	}
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, &postgres.write)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return err
	}
	if err := apply(tx, pgMigrations()); err != nil {
		return err
	}
	if err := check(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

func pgBegin(ctx context.Context, db *sql.DB, schema string) error {
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regnamespace(?) IS NOT NULL`, schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := db.ExecContext(ctx, `CREATE SCHEMA `+schema); err != nil {
			return err
		}
	}
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('migrations') IS NOT NULL`).Scan(&there); err != nil || there {
		return err
	}
	_, err := db.ExecContext(ctx, pgTypes(migrationsTable))
	return err
}

// pgLock has a transaction wait for others that write. Nobody who may only read can
// take these locks, vacuum does not need them, and while they are held no trigger,
// rule or policy is put on a table.
func pgLock(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return err
	}
	var tables string
	if err := tx.QueryRowContext(ctx, `SELECT string_agg(quote_ident(relname), ', ') FROM pg_class
		WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())`).Scan(&tables); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `LOCK TABLE `+tables+` IN ROW EXCLUSIVE MODE`)
	return err
}
