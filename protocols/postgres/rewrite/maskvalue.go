package rewrite

import (
	"context"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// mask returns the expression that stands in place of a column, nil for NULL.
func (a *Analyzer) mask(ctx context.Context, m policy.Mask, c *catalog.Column, base *catalog.Type) (*pg.Node, bool, error) {
	if base == nil || base.Schema != "pg_catalog" {
		return nil, false, nil // nothing is known of its values
	}
	sql, constant, err := mask.SQL(m, c.Name, base.Name)
	if err != nil || sql == "" {
		return nil, false, err
	}
	n, err := a.expression(ctx, sql)
	if err != nil {
		return nil, false, err
	}
	return n, constant, nil
}
