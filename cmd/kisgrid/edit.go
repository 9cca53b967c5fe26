package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// editCommand makes the command kisgrid edit, which opens a document in an editor and applies it.
func editCommand() *cobra.Command {
	var s server
	var o output
	var opts applyOptions
	cmd := &cobra.Command{
		Use:   "edit flow|function|connector NAME",
		Short: "Change a document in your editor, and apply it",
		Long: `edit opens a document of the cluster in an editor: the program in KISGRID_EDITOR, VISUAL or EDITOR, or else vi. When the editor ends, it
applies the document as kisgrid apply does, and waits for the workers.

A document with a mistake is opened again, with the mistake as a comment above it. To give up, leave the document as it is, or empty it.
Nothing is written if somebody else has changed the document meanwhile; your text is kept in a file then, as after any error.`,
		Example: "  EDITOR=true kisgrid edit flow CalStuAvgScore12\n  kisgrid edit function VerifyStu --dry-run",
		Args:    exactly("flow|function|connector", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := documentKind(args[0])
			if err != nil {
				return err
			}
			opts.asJSON = o.format == "json"
			var failed error // not an error of the call, to which the coordinator's address belongs
			err = s.admin(func(a pb.AdminClient) error {
				e := editing{kind: kind, name: args[1], admin: a, opts: opts, out: cmd.OutOrStdout(), log: cmd.ErrOrStderr(), open: openEditor}
				failed = e.run(cmd.Context())
				return nil
			})
			return cmp.Or(err, failed)
		},
	}
	opts.bind(cmd)
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// documentKind returns the kind of documents that a word of a command line means.
func documentKind(word string) (definition.Kind, error) {
	kind, ok := map[string]definition.Kind{
		"flow": definition.KindFlow, "flows": definition.KindFlow,
		"function": definition.KindFunc, "functions": definition.KindFunc, "func": definition.KindFunc,
		"connector": definition.KindConn, "connectors": definition.KindConn, "conn": definition.KindConn,
	}[word]
	if !ok {
		return "", fmt.Errorf("there is no kind %q of documents: give flow, function or connector", word)
	}
	return kind, nil
}

// editing is one run of kisgrid edit.
type editing struct {
	kind     definition.Kind
	name     string
	admin    pb.AdminClient
	opts     applyOptions
	out, log io.Writer
	open     func(ctx context.Context, path string) error // opens a file in an editor, and waits until it ends
}

// editMark begins the lines that edit adds above a document, and removes again.
const editMark = "#| "

// run opens the document until it is applied, or the user gives up.
func (e *editing) run(ctx context.Context) error {
	stored, err := e.stored(ctx)
	if err != nil {
		return wire.FromStatus(err)
	}
	before := stored.GetYaml()
	folder, err := os.MkdirTemp("", "kisgrid-edit-*")
	if err != nil {
		return err
	}
	path := filepath.Join(folder, "document.yaml") // a name of a document may be too long for a file
	text, mistake := before, ""
	for {
		head := editMark + fmt.Sprintf("%s/%s: save and end the editor to apply it. Lines that begin so are left out.\n", e.kind, e.name)
		for line := range strings.Lines(mistake) {
			head += editMark + strings.TrimRight(line, "\n") + "\n"
		}
		if err := os.WriteFile(path, append([]byte(head), text...), 0o600); err != nil {
			return err
		}
		if err := e.open(ctx, path); err != nil {
			return fmt.Errorf("%w; the text is in %s", err, path)
		}
		edited, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		edited = withoutMarks(edited)
		switch {
		case bytes.Equal(edited, before):
			fmt.Fprintln(e.log, "nothing is changed")
			return os.RemoveAll(folder)
		case len(bytes.TrimSpace(edited)) == 0:
			fmt.Fprintln(e.log, "the document is empty: nothing is changed")
			return os.RemoveAll(folder)
		case mistake != "" && bytes.Equal(edited, text):
			return fmt.Errorf("given up, because the document still has the mistake; the text is in %s:\n%s", path, mistake)
		}
		text = edited
		err = e.apply(ctx, stored, text)
		if err == nil || errors.Is(err, errReported) { // it is written, and apply has said how far it has come
			return errors.Join(err, os.RemoveAll(folder))
		}
		err = wire.FromStatus(err)
		code := batch.CodeOf(err)
		if code != batch.CodeBadDocument && code != batch.CodeFlowUncompilable && code != batch.CodeUnknownFunction && code != batch.CodeUnknownConnector {
			return fmt.Errorf("%w; the text is in %s", err, path)
		}
		mistake = err.Error()
	}
}

// stored returns the document as the cluster has it.
func (e *editing) stored(ctx context.Context) (*pb.Document, error) {
	kind := map[definition.Kind]string{definition.KindFlow: "flows", definition.KindFunc: "functions", definition.KindConn: "connectors"}[e.kind]
	got, err := e.admin.Get(ctx, &pb.GetRequest{Kind: kind, Name: e.name})
	if err != nil {
		return nil, err
	}
	for _, r := range got.GetResources() {
		if r.GetDocument() != nil {
			return r.GetDocument(), nil
		}
	}
	return nil, batch.Errorf(batch.CodeNotFound, "%s %s has no document in the cluster: it may be deleted", e.kind, e.name)
}

// apply applies the edited text, unless the document has another name now, or somebody else has changed it since it was read. The coordinator
// compares the revisions in the transaction that writes. One of an earlier build does not: for those, apply looks before it writes.
func (e *editing) apply(ctx context.Context, before *pb.Document, text []byte) error {
	docs := definition.Split("the document", text)
	if len(docs) != 1 {
		return batch.Errorf(batch.CodeBadDocument, "there are %d documents, and edit takes one: kisgrid apply takes more", len(docs))
	}
	p, err := definition.Parse(docs[0])
	if err != nil {
		return err
	}
	if d := p.Document(); d.Kind != e.kind || d.Name != e.name {
		return batch.Errorf(batch.CodeBadDocument, "the document is %s/%s now, and edit keeps the kind and the name: kisgrid apply makes another document", d.Kind, d.Name)
	}
	now, err := e.stored(ctx)
	if err != nil {
		return err
	}
	if now.GetRevision() != before.GetRevision() || !bytes.Equal(now.GetYaml(), before.GetYaml()) {
		return batch.Errorf(batch.CodeConflict, "somebody else has changed %s/%s meanwhile, and nothing is written: edit it again", e.kind, e.name)
	}
	ctx, cancel := e.opts.bound(ctx)
	defer cancel()
	docs[0].Revision = before.GetRevision()
	opts := e.opts
	opts.compare = true
	return apply(ctx, e.admin, docs, opts, e.out)
}

// withoutMarks returns a text without the lines that edit has added.
func withoutMarks(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(strings.TrimSpace(editMark))) {
			out = append(out, line...)
		}
	}
	return out
}

// openEditor opens a file in the user's editor, and waits until that ends. The variable may have arguments, as in "code --wait". Without a
// variable and a terminal it fails, because the usual editors need a terminal.
func openEditor(ctx context.Context, path string) error {
	usual := "vi"
	if runtime.GOOS == "windows" {
		usual = "notepad"
	}
	editor := strings.Fields(cmp.Or(os.Getenv("KISGRID_EDITOR"), os.Getenv("VISUAL"), os.Getenv("EDITOR")))
	if len(editor) == 0 && !terminal.Is(os.Stdin) {
		return errors.New("an editor needs a terminal, and standard input is none: name a program that changes the file with KISGRID_EDITOR, or use kisgrid get -o yaml and kisgrid apply")
	}
	if len(editor) == 0 {
		editor = []string{usual}
	}
	cmd := exec.CommandContext(ctx, editor[0], append(editor[1:], path)...) //nolint:gosec // the user names the program
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor %q: %w: set KISGRID_EDITOR to another one", strings.Join(editor, " "), err)
	}
	return nil
}
