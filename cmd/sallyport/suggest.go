package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/sample"
)

// suggestOptions are the flags of suggest.
type suggestOptions struct {
	resource, database, server string
	user, passwordFile         string
	schemas                    []string
	rows                       int
	time                       time.Duration
	min                        uint8
	json                       bool
}

const sampleBytes = 4000 // characters of a value

func policySuggestCmd() *cobra.Command {
	var o suggestOptions
	cmd := &cobra.Command{
		Use:   "suggest --database DB [--resource NAME]",
		Short: "Sample a database, and propose what to mask",
		Long: `Reads some rows of every table that its role may read, looks for identifiers,
payment data and credentials in them, and prints a rule that masks the columns
where it found some, as YAML for a person to review: "policy check" takes it as
it is. What columns are called counts too. No value is printed, logged or kept.

The role of resources[].catalog can read no table, and should not: with it, names
alone are judged. Make a role that may SELECT, name it with --user, and drop it
afterwards. Columns that could not be read are listed with the reason. Reading is
read-only, with a time limit for each table.

Where the guard covers this shell, name the server's own unix socket with
--server: the address would lead into the passage.

Exit codes: 0 done, whatever was found; 1 failed; 2 bad usage or configuration.`,
		Example: `  sallyport policy suggest --resource clinic --database clinic > suggested.yaml
  sallyport policy suggest --database clinic --user sampler --password-file sampler.password --rows 5000
  sallyport policy suggest --database clinic --server /run/postgresql --schema clinic --json | jq '.proposals[].field'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.suggest(cmd)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), s)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), s.yaml())
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.resource, "resource", "", "name of the resource (default: the only one)")
	f.StringVar(&o.database, "database", "", "database to sample")
	f.StringVar(&o.server, "server", "", "where the server is reached: HOST:PORT, or the folder of its unix socket")
	f.StringVar(&o.user, "user", "", "role that reads (default: that of the resource's catalog)")
	f.StringVar(&o.passwordFile, "password-file", "", "its password")
	f.StringSliceVar(&o.schemas, "schema", nil, "only these schemas (default: all)")
	f.IntVar(&o.rows, "rows", 1000, "rows of a table, at most")
	f.DurationVar(&o.time, "timeout", 5*time.Second, "how long the reading of one table may take")
	f.Uint8Var(&o.min, "min", 50, "least confidence of a proposal, in percent")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	cmd.MarkFlagDirname("server")
	cmd.MarkFlagFilename("password-file")
	cmd.RegisterFlagCompletionFunc("resource", completeResource)
	return cmd
}

// completeResource offers the resources of the configuration.
func completeResource(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if cfg, err := commandConfig(cmd); err == nil {
		names, _ = namesOf(cfg)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (o *suggestOptions) suggest(cmd *cobra.Command) (*suggestion, error) {
	switch {
	case o.database == "":
		return nil, configError(errors.New("say which database: --database DB"))
	case o.rows < 1 || o.rows > 1_000_000:
		return nil, configError(errors.New("--rows is from 1 to 1000000"))
	case o.time < 10*time.Millisecond:
		return nil, configError(errors.New("--timeout is at least 10ms"))
	case o.min > 100:
		return nil, configError(errors.New("--min is a percentage"))
	case o.passwordFile != "" && o.user == "":
		return nil, configError(errors.New("--password-file is for the role that --user names"))
	}
	cfg, err := commandConfig(cmd)
	if err != nil {
		return nil, err
	}
	res, err := o.find(cfg)
	if err != nil {
		return nil, configError(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	co, err := o.connection(cfg, res)
	if err != nil {
		return nil, configError(err)
	}
	c, err := catalog.Connect(ctx, co, "sallyport policy suggest")
	if err != nil {
		return nil, sideError(err, o.server)
	}
	defer c.Close(context.WithoutCancel(ctx))
	tables, err := sample.Tables(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("list the tables of database %q: %w", o.database, err)
	}
	s := &suggestion{Resource: res.Name, Database: o.database, Role: co.User, Proposals: []proposal{}, Unread: []unread{}}
	progress := terminal(cmd.ErrOrStderr())
	for i, t := range tables {
		if len(o.schemas) > 0 && !slices.Contains(o.schemas, t.Schema) {
			continue
		}
		if progress {
			fmt.Fprintf(cmd.ErrOrStderr(), "\r\x1b[K%d of %d tables", i+1, len(tables))
		}
		x := newExamination(t)
		err := sample.Read(ctx, c, t, sample.Limits{Rows: o.rows, Bytes: sampleBytes, Time: o.time}, x.value)
		if ctx.Err() != nil || c.IsClosed() {
			return nil, fmt.Errorf("stopped at table %d of %d: %w", i+1, len(tables), errors.Join(ctx.Err(), err))
		}
		s.add(x, err, o.min)
	}
	if progress {
		fmt.Fprint(cmd.ErrOrStderr(), "\r\x1b[K")
	}
	return s, nil
}

// find returns the resource that is meant.
func (o *suggestOptions) find(cfg *config.Config) (*config.Resource, error) {
	var names []string
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		names = append(names, r.Name)
		if r.Name != o.resource && (o.resource != "" || len(cfg.Resources) != 1) {
			continue
		}
		switch {
		case r.Protocol != "postgres":
			return nil, fmt.Errorf("resource %s speaks %s: suggest knows postgres", r.Name, r.Protocol)
		case r.Catalog == nil:
			return nil, errNoCatalog
		}
		return r, nil
	}
	return nil, fmt.Errorf("--resource %q: name one of %s", o.resource, strings.Join(names, ", "))
}

// connection says how the side connection is made, and as whom.
func (o *suggestOptions) connection(cfg *config.Config, res *config.Resource) (catalog.Options, error) {
	user, file, what := res.Catalog.User, res.Catalog.PasswordFile, "resources[].catalog.password_file"
	if o.user != "" {
		user, file, what = o.user, o.passwordFile, "--password-file"
	}
	var password []byte
	if file != "" {
		var err error
		if password, err = readFile(file, maxSecret); err != nil {
			return catalog.Options{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	network, address, err := serverAddress(o.server, res)
	if err != nil {
		return catalog.Options{}, err
	}
	files, err := readTLS(cfg)
	if err != nil {
		return catalog.Options{}, err
	}
	up, err := newUpstreams(cfg, files, nil)
	if err != nil {
		return catalog.Options{}, err
	}
	return catalog.Options{
		User: user, Password: trimNewline(password), Database: o.database,
		Dial: func(ctx context.Context) (net.Conn, error) { return up[res.Name].dial(ctx, network, address) },
	}, nil
}

// sideError says what to do where the server cannot be reached.
func sideError(err error, server string) error {
	e := &exitError{code: 1, err: err}
	if server == "" { // EPERM of the guard, or the passage's own refusal
		e.hint = "where the guard covers this shell, name the folder of the server's unix socket, for example --server /run/postgresql"
	}
	return e
}
