package catalog

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5"
)

// Connect makes a side connection that says what it is for. Its search_path
// has pg_catalog alone.
func Connect(ctx context.Context, o Options, application string) (*pgx.Conn, error) {
	// Everything is given: nothing of the environment may leak in.
	cfg, err := pgx.ParseConfig("host=catalog port=5432 user=x dbname=x sslmode=disable passfile=/dev/null servicefile=/dev/null")
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password, cfg.Database = o.User, o.Password, o.Database
	cfg.Fallbacks = nil
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
	cfg.RuntimeParams = map[string]string{
		"application_name": application,
		"search_path":      "pg_catalog", // all other names are printed qualified
		"client_encoding":  "UTF8",
		// What is read costs less than it is guessed to.
		"jit":                             "off",
		"max_parallel_workers_per_gather": "0",
	}
	return pgx.ConnectConfig(ctx, cfg)
}
