package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// portalCommand has the test binary be the portal of docs/pooling.md, which reads
// a number for each token of its environment.
const portalCommand = "portal"

func init() {
	if len(os.Args) == 2 && os.Args[1] == portalCommand {
		if err := portal(context.Background(), strings.Fields(os.Getenv("PORTAL_TOKENS"))); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func portal(ctx context.Context, tokens []string) error {
	c, err := pgx.Connect(ctx, os.Getenv("PORTAL_DSN"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, token := range tokens {
		err := actingFor(ctx, c, token, func() error {
			var ssn string
			err := c.QueryRow(ctx, "SELECT ssn FROM patients WHERE id = $1", 1).Scan(&ssn)
			fmt.Println(ssn)
			return err
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	return nil
}

// actingFor runs f with a connection whose statements are for the person of a
// token.
func actingFor(ctx context.Context, c *pgx.Conn, token string, f func() error) (err error) {
	// SET takes no parameters; a token has nothing to be quoted in it.
	if strings.ContainsAny(token, `'\`) {
		return errors.New("this is no token")
	}
	if _, err := c.Exec(ctx, "SET sallyport.principal = '"+token+"'"); err != nil {
		return err
	}
	defer func() {
		_, reset := c.Exec(ctx, "RESET sallyport.principal")
		err = errors.Join(err, reset)
	}()
	return f()
}
