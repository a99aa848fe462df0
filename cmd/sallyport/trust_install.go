package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// storing are install's and uninstall's flags.
type storing struct {
	root        string
	dry, asJSON bool
	users       []string
	environment []string
	java        bool
}

func (o *storing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	rootFlag(cmd, &o.root)
	f.BoolVar(&o.dry, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&o.asJSON, "json", false, "print a JSON list of changes")
	f.StringSliceVar(&o.users, "user", nil, "also in this user's ~/.postgresql/root.crt, for libpq and pgjdbc (may be repeated)")
	_ = cmd.RegisterFlagCompletionFunc("user", cobra.NoFileCompletions)
}

func trustInstallCmd() *cobra.Command {
	var o storing
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put this host's authority into the stores that agents trust",
		Long: `Puts the authority's certificate into the system's store (Debian, Ubuntu, Alpine,
Fedora, RHEL, SUSE, Arch) and into /usr/local/share/sallyport/HOST.pem, for whatever
is told a file's name. With --user it is added to root.crt of that user, with --java
to the stores of Java runtimes that the system's own program does not keep.

Only the root is installed, whose key nobody has any more. The one certificate that
it has signed vouches by critical name constraints for the names of the
configuration and no others. After "sallyport trust renew" the old root stays beside
the new one until it is finished with. What is there already is left as it is;
certificates of this host that are no longer wanted are removed.

Programs that do not read the system's store need a variable (--environment
writes it for logins or for systemd's services; it is printed otherwise).

A user's root.crt makes libpq verify the server's certificate also with
sslmode=require.`,
		Example: `  sudo sallyport trust install
  sudo sallyport trust install --user agent-a --environment profile,systemd
  sudo sallyport trust install --root /srv/images/agent --dry-run`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, e := range o.environment {
				if environments[e] == "" {
					return configError(fmt.Errorf("--environment %q: must be profile or systemd", e))
				}
			}
			return o.change(cmd, func(s *stores) error {
				if err := s.installSystem(s.certs); err != nil {
					return err
				}
				if err := s.write("file", s.file(), s.certs.pem(), 0o644); err != nil {
					return err
				}
				if o.java {
					if err := s.java(s.certs); err != nil {
						return err
					}
				}
				for _, u := range o.users {
					if err := s.libpq(u, s.certs); err != nil {
						return err
					}
				}
				for _, e := range o.environment {
					if err := s.environment(e); err != nil {
						return err
					}
				}
				if !o.asJSON {
					s.advise(cmd.OutOrStdout(), o.environment)
				}
				return nil
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.java, "java", false, "also into stores of Java runtimes that the system does not keep")
	cmd.Flags().StringSliceVar(&o.environment, "environment", nil, "also write variables: profile (logins), systemd (services)")
	_ = cmd.RegisterFlagCompletionFunc("environment", cobra.FixedCompletions(slices.Sorted(maps.Keys(environments)), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func trustUninstallCmd() *cobra.Command {
	var o storing
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take this host's authority out of all stores again",
		Long: `Takes every certificate of this host's authority, of whatever time, out of the
stores that "sallyport trust install" puts it into, and removes the files that it
wrote. The authority itself stays.`,
		Example: `  sudo sallyport trust uninstall --dry-run
  sudo sallyport trust uninstall --user agent-a`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.change(cmd, func(s *stores) error {
				errs := []error{s.installSystem(nil), s.remove("file", s.file()), s.java(nil)}
				for _, u := range o.users {
					errs = append(errs, s.libpq(u, nil))
				}
				for _, kind := range slices.Sorted(maps.Keys(environments)) {
					errs = append(errs, s.remove("environment", environments[kind]))
				}
				return errors.Join(errs...)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

// change has f change stores, and tells what it did as it does it.
func (o *storing) change(cmd *cobra.Command, f func(*stores) error) error {
	if len(o.users) > 0 && path.Clean(o.root) != "/" {
		return configError(errors.New("--user is for this machine's users, not for those of --root: give its programs sslrootcert instead"))
	}
	cfg, err := commandConfig(cmd)
	if err != nil {
		return err
	}
	t, err := openTree(o.root)
	if err != nil {
		return configError(fmt.Errorf("--root: %w", err))
	}
	defer t.Close()
	cs, err := readCertificates(cfg)
	if cmd.Name() == "install" {
		if err == nil {
			err = checkAuthority(cfg)
		}
		if err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	s := newStores(t, cfg.Host, cs)
	s.dry, s.changes = o.dry, []change{}
	if !o.asJSON {
		s.say = func(c change) { printChange(out, c, o.dry) }
	}
	err = f(s)
	if o.asJSON {
		err = errors.Join(err, printJSON(out, s.changes))
	} else if err == nil && len(s.changes) == 0 {
		fmt.Fprintln(out, "nothing to do")
	}
	if errors.Is(err, os.ErrPermission) {
		return &exitError{code: 1, hint: "the stores are root's: run it with sudo", err: err}
	}
	return err
}

// advise tells of runtimes that look elsewhere.
func (s *stores) advise(w io.Writer, written []string) {
	if len(written) == 0 {
		fmt.Fprintf(w, "for Node and Python's requests, in the environment of agents (or see --environment): %s\n", render.Line(strings.Join(s.variables(), " ")))
	} else if slices.Contains(written, "systemd") {
		fmt.Fprintln(w, "services have the variables after `systemctl daemon-reexec` and their next start")
	}
	for _, k := range s.keystores() {
		at := render.Line(s.t.name(k.path))
		switch state := s.stateOf(&k); {
		case state == installed:
		case k.tool == "":
			fmt.Fprintf(w, "%s has no keytool: name another store to that runtime (docs/tls.md, Trust)\n", at)
		default:
			fmt.Fprintf(w, "%s is left alone (see --java)\n", at)
		}
	}
}
