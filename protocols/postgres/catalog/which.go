package catalog

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// which tells a database apart from all others that may have its name: by its server's
// own number, as far as that is shown, and by its own there. A standby has the same.
func which(ctx context.Context, db side) (string, error) {
	var server, own string
	err := db.each(ctx, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()", func() {}, &server)
	var denied *pgconn.PgError
	if err != nil && !errors.As(err, &denied) {
		return "", err
	}
	err = db.each(ctx, "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()", func() {}, &own)
	return server + "/" + own, err
}

// Same reports whether two values of Snapshot.Of may be of one database: a server's
// number is not always shown.
func Same(a, b string) bool {
	serverA, ownA, _ := strings.Cut(a, "/")
	serverB, ownB, _ := strings.Cut(b, "/")
	return ownA == ownB && ownA != "" && (serverA == serverB || serverA == "" || serverB == "")
}
