package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// configCommand makes the command kisgrid config, whose subcommands keep contexts.
func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Name clusters, and choose one",
		Long: `config keeps contexts. A context says how to reach a cluster, and as whom: it has values for --server, --token-file and the flags for
TLS. The commands that ask a cluster take what the current context says where a flag is not given. If --server or KISGRID_SERVER is given,
the current context is left out altogether, so that no token goes to another cluster.

Contexts are kept in kisgrid/config.yml in your folder for settings (~/.config on Linux), or in the file that KISGRID_CONFIG names.`,
		Example: "  kisgrid config set-context prod --server grid.example.com --tls-ca ca.pem --token-file ~/.kisgrid-token\n" +
			"  kisgrid config use prod\n  kisgrid get flows\n  kisgrid get flows --context test",
	}
	cmd.AddCommand(configSetCommand(), configUseCommand(), configGetCommand())
	return cmd
}

// configSetCommand makes the command kisgrid config set-context.
func configSetCommand() *cobra.Command {
	var s server
	var use bool
	cmd := &cobra.Command{
		Use:     "set-context NAME --server HOST:PORT",
		Short:   "Make a context, or replace one",
		Example: "  kisgrid config set-context prod --server $KISGRID_SERVER\n  kisgrid config set-context prod --server grid.example.com:7700 --token-file ~/.kisgrid-token --use",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" || strings.ContainsAny(args[0], " \t\n") {
				return fmt.Errorf("%q can't be the name of a context: give one without spaces", args[0])
			}
			t := &s.transport
			made := clusterContext{
				Server: s.address, TLSCA: t.TLSCA, TLSCert: t.TLSCert, TLSKey: t.TLSKey, TLSServerName: t.TLSServerName,
				TokenFile: s.tokenFile, TokenPlaintext: t.TokenPlaintext,
			}
			for _, path := range []*string{&made.TLSCA, &made.TLSCert, &made.TLSKey, &made.TokenFile} {
				if *path == "" {
					continue
				}
				absolute, err := filepath.Abs(*path)
				if err != nil {
					return err
				}
				*path = absolute
			}
			all, err := readContexts()
			if err != nil {
				return err
			}
			if all.Contexts == nil {
				all.Contexts = map[string]clusterContext{}
			}
			all.Contexts[args[0]] = made
			if use {
				all.Current = args[0]
			}
			return all.write()
		},
	}
	s.bind(cmd)
	cmd.Flags().BoolVar(&use, "use", false, "also make it the current context")
	cmd.Flags().Lookup("context").Hidden = true
	return cmd
}

// configUseCommand makes the command kisgrid config use.
func configUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Make a context the current one",
		Long:    `use makes a context the current one. With an empty name ("") none is current.`,
		Example: "  kisgrid config use prod\n  kisgrid config use ''",
		Args:    exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if args[0] != "" {
				if _, err := all.named(args[0]); err != nil {
					return err
				}
			}
			all.Current = args[0]
			return all.write()
		},
	}
}

// configGetCommand makes the command kisgrid config get.
func configGetCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:     "get [NAME]",
		Short:   "List the contexts, or show one",
		Example: "  kisgrid config get\n  kisgrid config get prod",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				one, err := all.named(args[0])
				if err != nil {
					return err
				}
				all.Contexts = map[string]clusterContext{args[0]: one}
			}
			switch o.format {
			case "json":
				return printJSON(cmd.OutOrStdout(), all.view())
			case "":
			default:
				return errors.New("-o: give json, or leave it out")
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "CURRENT\tNAME\tSERVER\tTOKEN FILE\tTLS")
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				c, current, secured := all.Contexts[name], "", "no"
				if name == all.Current {
					current = "*"
				}
				if c.TLSCA != "" || c.TLSCert != "" {
					secured = "yes"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", current, name, c.Server, c.TokenFile, secured)
			}
			return table.Flush()
		},
	}
	o.bind(cmd, "json")
	return cmd
}

// contextView is a context as config get -o json prints it.
type contextView struct {
	Name           string `json:"name"`
	Current        bool   `json:"current"`
	Server         string `json:"server"`
	TLSCA          string `json:"tls_ca,omitempty"`
	TLSCert        string `json:"tls_cert,omitempty"`
	TLSKey         string `json:"tls_key,omitempty"`
	TLSServerName  string `json:"tls_server_name,omitempty"`
	TokenFile      string `json:"token_file,omitempty"`
	TokenPlaintext bool   `json:"token_plaintext,omitempty"`
}

// view returns the contexts as config get -o json prints them, in the order of their names.
func (c *contexts) view() []contextView {
	all := []contextView{}
	for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
		one := c.Contexts[name]
		all = append(all, contextView{
			Name: name, Current: name == c.Current, Server: one.Server, TLSCA: one.TLSCA, TLSCert: one.TLSCert, TLSKey: one.TLSKey,
			TLSServerName: one.TLSServerName, TokenFile: one.TokenFile, TokenPlaintext: one.TokenPlaintext,
		})
	}
	return all
}
