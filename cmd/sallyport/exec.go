package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
)

func init() { commands = append(commands, execCmd) }

func execCmd() *cobra.Command {
	var userName string
	var entry privsep.Entry
	cmd := &cobra.Command{
		Use:   "exec --token-file FILE [--for FILE] [--user USER] [--name NAME] -- CMD [ARG...]",
		Short: "Run a command in a guarded cgroup, with a token",
		Long: `Exec moves itself into a new cgroup below /sallyport.guarded, whose processes
present the token in FILE, gives up its privileges for those of USER, and
becomes CMD: the exit code is CMD's. It needs root, and a running sallyport.

FILE is read again for each connection: a renewed token is found, and removing
the file revokes it. It must belong to root or to USER, nobody else may write
to it, and its path is fixed to what it leads to now. The workload that
CMD is taken for is the one in identity.workloads whose match fits, for example
by "cgroup: /sallyport.guarded/**" and a uid, and its subjects limit the token.

With --for, CMD acts for a person: that file holds the token of theirs that
sallyport login has kept. It must belong to root or to who owns it now, and is
read again like the other; the person is then the principal of what CMD does. A
token of CMD's own that acts for somebody else is refused.

A user other than root can get no privilege back, not by set-user-id programs
either. The cgroup is removed when its last process has ended.`,
		Example: `  sudo sallyport exec --token-file /etc/agents/a.jwt --user agent-a -- psql -h db.example -U clinic
  sudo sallyport exec --token-file /etc/agents/a.jwt --user 1001:1001 --name nightly -- ./report.sh
  sudo sallyport exec --token-file /etc/agents/a.jwt --for ~/.local/state/sallyport/token --user agent-a -- ./agent`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return configError(errors.New("no command: put it after --"))
			}
			if entry.TokenFile == "" {
				return configError(errors.New("no token: name its file with --token-file"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _ := cmd.Flags().GetString("config")
			cfg, err := config.Load(path)
			if err != nil {
				return badConfig(err)
			}
			return execIn(cmd.Context(), filepath.Join(cfg.Run, "control.sock"), entry, userName, args)
		},
	}
	f := cmd.Flags()
	// Flags after CMD are CMD's.
	f.SetInterspersed(false)
	f.StringVar(&entry.TokenFile, "token-file", "", "file with the token that CMD presents")
	f.StringVar(&userName, "user", "", "who CMD runs as: a name, a uid, or uid:gid (default: root)")
	f.StringVar(&entry.PersonFile, "for", "", "file with the token of the person that CMD acts for")
	f.StringVar(&entry.Name, "name", "", "part of the cgroup's name (default: random)")
	_ = cmd.MarkFlagFilename("token-file")
	_ = cmd.MarkFlagFilename("for")
	return cmd
}

// execIn returns only to say why CMD does not run.
func execIn(ctx context.Context, socket string, entry privsep.Entry, userName string, args []string) error {
	if os.Geteuid() != 0 {
		return &exitError{code: 1, err: errors.New("exec needs root: to enter the cgroup and to become another user"), hint: "run it with sudo, and name the agent's user with --user"}
	}
	u, env, err := lookupUser(userName, os.Environ())
	if err != nil {
		return configError(err)
	}
	bin, err := exec.LookPath(args[0])
	if err != nil {
		return configError(fmt.Errorf("command: %w", err))
	}
	if u.UID == 0 {
		fmt.Fprintln(os.Stderr, "sallyport: warning: the command runs as root, which can undo the guard; name a user with --user")
	}
	if ctx == nil {
		ctx = context.Background()
	}
	if _, err := privsep.Enter(ctx, socket, entry); err != nil {
		return err
	}
	return privsep.Exec(u, bin, args, env)
}

// lookupUser finds a user with all its groups, and the environment of root's
// turned into the user's.
func lookupUser(s string, env []string) (privsep.User, []string, error) {
	if s == "" {
		return privsep.User{}, env, nil
	}
	uid, gid, pair := strings.Cut(s, ":")
	found, err := user.Lookup(uid)
	if err != nil {
		found, err = user.LookupId(uid)
	}
	if err != nil {
		found = nil
	}
	if pair || found == nil {
		u, uerr := strconv.ParseUint(uid, 10, 32)
		g, gerr := strconv.ParseUint(gid, 10, 32)
		// The highest id means "no change" to the kernel.
		if uerr != nil || gerr != nil || u == 1<<32-1 || g == 1<<32-1 {
			return privsep.User{}, nil, fmt.Errorf("--user %q: no such user: give a name or uid that the system knows, or uid:gid", s)
		}
		return privsep.User{UID: uint32(u), GID: uint32(g)}, homeOf(env, found), nil
	}
	var ids []uint32
	groups, err := found.GroupIds()
	if err != nil {
		return privsep.User{}, nil, fmt.Errorf("--user %q: its groups: %w", s, err)
	}
	for _, id := range append([]string{found.Uid, found.Gid}, groups...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return privsep.User{}, nil, fmt.Errorf("--user %q: id %q: %w", s, id, err)
		}
		ids = append(ids, uint32(n))
	}
	return privsep.User{UID: ids[0], GID: ids[1], Groups: ids[2:]}, homeOf(env, found), nil
}

// homeOf names u in the environment, as login programs do.
func homeOf(env []string, u *user.User) []string {
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if name != "HOME" && name != "USER" && name != "LOGNAME" {
			out = append(out, e)
		}
	}
	if u != nil {
		out = append(out, "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	}
	return out
}
