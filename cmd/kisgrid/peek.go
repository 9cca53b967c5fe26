package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// peekCommand makes the command kisgrid peek, which shows the content of one key of a connector.
func peekCommand() *cobra.Command {
	var s server
	var o output
	p := peeker{}
	cmd := &cobra.Command{
		Use:   "peek CONNECTOR KEY",
		Short: "Show what a connector's store holds under a key",
		Long: `peek gets the connector's document from a coordinator, fills in each ${NAME} from the environment of this command, and reads the key from the
store itself. KEY is without the key prefix of the document, as a Load or Save has it. Nothing is written.

The store must be reachable from this machine; --addrs names it if it has another address here than for workers, such as that of a tunnel. Who may
read it is for the store to say: peek has no rights but those of the user name and password of the document, or of --password-file.`,
		Example: "  kisgrid peek Score12Cache 101\n  kisgrid peek Score12Cache 101 --addrs localhost:6380 -o json",
		Args:    exactly("CONNECTOR", "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.limit < 1 {
				return command.Usage("--limit %d: give 1 or more", p.limit)
			}
			if p.timeout <= 0 {
				return command.Usage("--timeout %s: give a time above 0, such as 5s", p.timeout)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
			defer cancel()
			v, err := p.peek(ctx, &s, args[0], args[1])
			if err != nil {
				return err
			}
			return v.print(cmd.OutOrStdout(), &o)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&p.addrs, "addrs", nil, "`addresses` of the store, in place of those of the document")
	fs.StringVar(&p.passwordFile, "password-file", "", "`file` with the store's password, in place of that of the document")
	fs.IntVar(&p.limit, "limit", 500, "show at most so many `fields` or values")
	fs.DurationVar(&p.timeout, "timeout", 5*time.Second, "how long to wait for the coordinator and the store")
	o.bind(cmd, "json", "yaml", "csv", "jsonpath=…")
	s.bind(cmd)
	return cmd
}

// peeker has the flags of the command peek.
type peeker struct {
	addrs        []string
	passwordFile string
	limit        int
	timeout      time.Duration
}

// peekView is the content of a key, as -o json prints it.
type peekView struct {
	Connector string `json:"connector"`
	Key       string `json:"key"`
	// Stored is the key with the connector's prefix.
	Stored string `json:"stored"`
	Type   string `json:"type"`
	// SecondsLeft is the time until the key expires; 0 means that it does not.
	SecondsLeft float64           `json:"seconds_left,omitempty"`
	Length      int64             `json:"length"`
	Fields      map[string]string `json:"fields,omitempty"` // of a hash
	Values      []string          `json:"values,omitempty"` // of a list; the only one of a string

	fields []connector.Field
}

// peek reads the key. A key that is not there is an error with CodeNotFound.
func (p *peeker) peek(ctx context.Context, s *server, name, key string) (*peekView, error) {
	var parsed definition.Parsed
	if err := s.admin(func(a pb.AdminClient) error {
		got, err := a.Get(ctx, &pb.GetRequest{Kind: "connectors", Name: name, Known: true})
		if err != nil {
			return err
		}
		if len(got.GetResources()) != 1 || got.GetResources()[0].GetDocument() == nil {
			return batch.Errorf(batch.CodeNotFound, "there is no document of the connector %q", name)
		}
		d := got.GetResources()[0].GetDocument()
		parsed, err = definition.Parse(definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
		return err
	}); err != nil {
		return nil, err
	}
	doc := *parsed.Connector
	if doc.Type != "redis" {
		return nil, fmt.Errorf("connector %s is of type %s: only the stores of Redis connectors can be read from outside the workers", name, doc.Type)
	}
	if p.addrs != nil {
		doc.Addrs = p.addrs
	}
	if p.passwordFile != "" {
		doc.PasswordFile = p.passwordFile
	}
	resolved, secrets, err := doc.ResolveSecrets(os.LookupEnv)
	if err != nil {
		return nil, err
	}
	got, err := redis.Peek(ctx, resolved, key, p.limit)
	if err != nil {
		return nil, definition.NewRedactor(secrets...).Error(err)
	}
	if got.Type == "none" {
		return nil, batch.Errorf(batch.CodeNotFound, "connector %s has no key %q (in Redis: %q)", name, key, got.Stored)
	}
	slices.SortFunc(got.Fields, func(a, b connector.Field) int { return strings.Compare(a.Name, b.Name) })
	v := &peekView{Connector: name, Key: key, Stored: got.Stored, Type: got.Type, SecondsLeft: got.Left.Seconds(), Length: got.Length, Values: got.Values}
	if got.Type == "string" && len(got.Fields) == 1 {
		v.Values = []string{got.Fields[0].Value}
		return v, nil
	}
	v.fields = got.Fields
	for _, f := range got.Fields {
		if v.Fields == nil {
			v.Fields = map[string]string{}
		}
		v.Fields[f.Name] = f.Value
	}
	return v, nil
}

// print prints the content in the format of the command.
func (v *peekView) print(out io.Writer, o *output) error {
	l := &list{value: v, none: "nothing of it can be shown"}
	if v.Type == "hash" {
		l.heading = []string{"FIELD", "VALUE"}
		for _, f := range v.fields {
			l.rows = append(l.rows, []string{f.Name, f.Value})
		}
	} else {
		l.heading = []string{"VALUE"}
		for _, value := range v.Values {
			l.rows = append(l.rows, []string{value})
		}
	}
	if o.data() {
		return o.print(out, l)
	}
	text := fmt.Sprintf("%s of connector %s: a %s", terminal.Line(v.Stored), v.Connector, v.Type)
	if v.Length > 0 {
		text += fmt.Sprintf(" of %d", v.Length)
	}
	if v.SecondsLeft > 0 {
		text += fmt.Sprintf(", expires in %s", time.Duration(v.SecondsLeft*float64(time.Second)).Round(time.Second))
	}
	fmt.Fprintln(out, text)
	err := o.print(out, l)
	if more := v.Length - int64(len(l.rows)); more > 0 && len(l.rows) > 0 {
		_, told := fmt.Fprintf(out, "%d more: --limit shows more\n", more)
		err = errors.Join(err, told)
	}
	return err
}
