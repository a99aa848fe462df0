package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// analysis is an analyzer as the daemon has them, for one command.
type analysis struct {
	pool     *parser.Pool
	catalog  *catalog.Catalog
	analyzer *rewrite.Analyzer
}

func openAnalysis(ctx context.Context, cfg *config.Config, o *explainOptions, res *config.Resource) (*analysis, error) {
	if res.Catalog == nil {
		return nil, configError(errNoCatalog)
	}
	var password []byte
	if f := res.Catalog.PasswordFile; f != "" {
		var err error
		if password, err = os.ReadFile(f); err != nil {
			return nil, configError(fmt.Errorf("resources[].catalog.password_file: %w", err))
		}
	}
	network, address, err := serverAddress(o.server, res)
	if err != nil {
		return nil, configError(err)
	}
	files, err := readTLS(cfg)
	if err != nil {
		return nil, configError(err)
	}
	up, err := newUpstreams(cfg, files, nil)
	if err != nil {
		return nil, configError(err)
	}
	a := &analysis{}
	if a.pool, err = parser.New(parser.Options{Size: 1}); err != nil {
		return nil, err
	}
	a.catalog, err = catalog.Open(ctx, catalog.Options{
		User: res.Catalog.User, Password: trimNewline(password), Database: o.database,
		Dial: func(ctx context.Context) (net.Conn, error) { return up[res.Name].dial(ctx, network, address) },
	})
	if err != nil {
		a.close()
		e := &exitError{code: 1, err: err}
		if o.server == "" { // EPERM of the guard, or the passage's own refusal
			e.hint = "where the guard covers this shell, name the folder of the server's unix socket, for example --server /run/postgresql"
		}
		return nil, e
	}
	a.analyzer = rewrite.New(rewrite.Options{Parser: a.pool, Catalog: a.catalog})
	return a, nil
}

func (a *analysis) close() {
	if a.catalog != nil {
		_ = a.catalog.Close()
	}
	_ = a.pool.Close()
}

// serverAddress is where a resource's server is reached.
func serverAddress(server string, res *config.Resource) (network, address string, err error) {
	switch {
	case server == "":
		return "tcp", res.Catalog.Address.String(), nil
	case !strings.HasPrefix(server, "/"):
		if _, _, err := net.SplitHostPort(server); err != nil {
			return "", "", fmt.Errorf("--server %q: write HOST:PORT, or the folder of a unix socket", server)
		}
		return "tcp", server, nil
	}
	usual := filepath.Join(server, fmt.Sprintf(".s.PGSQL.%d", res.Catalog.Address.Port()))
	if _, err := os.Stat(usual); err == nil {
		return "unix", usual, nil
	}
	found, _ := filepath.Glob(filepath.Join(server, ".s.PGSQL.*[0-9]"))
	if len(found) != 1 {
		return "", "", fmt.Errorf("--server %s: %d servers have a socket there, none of them on port %d", server, len(found), res.Catalog.Address.Port())
	}
	return "unix", found[0], nil
}

// warnings tell where policy and catalog disagree.
func (a *analysis) warnings(sc *policy.Scope) []string {
	var out []string
	for _, f := range a.analyzer.Unbound(sc) {
		out = append(out, fmt.Sprintf("the policy masks %s, which the database does not have: statements on its relation are refused", f))
	}
	s := a.catalog.Snapshot()
	for rel, cols := range sc.Masks {
		for col, m := range cols {
			f := events.Field{Schema: rel.Schema, Relation: rel.Name, Column: col}
			if err := a.analyzer.Unfit(f, m); err != nil && !slices.Contains(a.analyzer.Unbound(sc), f) {
				out = append(out, err.Error())
			}
		}
		known := false
		for _, r := range s.ByName[rel.Name] {
			known = known || r.Schema == rel.Schema
		}
		if !known {
			out = append(out, fmt.Sprintf("the policy masks fields of %s.%s, a relation that the database does not have", rel.Schema, rel.Name))
		}
	}
	slices.Sort(out)
	return out
}

func normalized(sql string) string {
	norm, _ := token.Normalize(nil, sql, nil)
	return string(norm)
}
