package recorder

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

// The form of a stored block, for tests that edit a store as an insider would.

func Block(rs []events.Record) (heads, bodies []byte) { return new(blockWriter).block(rs) }

func ReadBlock(chain string, first uint64, heads, bodies []byte) ([]events.Record, error) {
	h, err := readBlock(chain, first, heads, bodies)
	return h.records, err
}

// Connect opens a store's database as an insider would.
func Connect(store string) (*sql.DB, error) {
	if IsURL(store) {
		db, _, err := pgConnect(store, func(context.Context, *pgx.Conn) error { return nil })
		return db, err
	}
	return sql.Open("sqlite", "file:"+storeFile(store))
}

// Setting is one of PostgreSQL's, as the store has it.
func Setting(s *DB, name string) (value string, err error) {
	return value, s.db.QueryRow(`SELECT current_setting(?)`, name).Scan(&value)
}

// MadePostgresLayout is what the migrations make in PostgreSQL.
func MadePostgresLayout(store string) (text string, err error) {
	db, schema, err := pgConnect(store, func(context.Context, *pgx.Conn) error { return nil })
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = pgMigrate(context.Background(), db, schema, func(ctx context.Context, tx *sql.Tx) error { return tx.QueryRowContext(ctx, pgLayoutText).Scan(&text) })
	return text, err
}

// Schema1 is what the first version made.
var Schema1 = migrations[0].sql

// AddAfter is Add in a transaction that was edited first.
func (s *DB) AddAfter(ctx context.Context, edit string, batch []Message) error {
	a, err := s.begin(ctx, time.Now())
	if err != nil {
		return err
	}
	defer a.end()
	if _, err := a.tx.ExecContext(ctx, edit); err != nil {
		return err
	}
	if err := a.addAll(batch); err != nil {
		return err
	}
	_, err = a.commit()
	return err
}

// Row is the id of a session's row.
func Row(x Session) int64 { return x.row }

// StatementWatcher is what Watch does with the records and looks.
type StatementWatcher = watcher

var NewStatementWatcher = newWatcher

func (w *watcher) Take(r *events.Record) error { return w.take(r) }
func (w *watcher) Looked(last bool) error      { return w.looked(last) }
func (w *watcher) Held() int                   { return len(w.Requests) + len(w.at) }
