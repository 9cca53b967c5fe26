package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/terminal"
)

// output holds the flag --output of a command. An empty format means text for people.
type output struct {
	format string
	known  []string
}

// listFormats are the formats of commands that print lists.
var listFormats = []string{"json", "yaml", "wide", "name", "csv", "jsonpath=…"}

// bind adds the flag --output to cmd. formats are the formats that the command knows. Another format is a mistake in the command line.
func (o *output) bind(cmd *cobra.Command, formats ...string) {
	o.known = formats
	cmd.Flags().VarP(o, "output", "o", "`format`: "+strings.Join(formats, ", ")+" (default: text for people)")
}

// Set implements pflag.Value.
func (o *output) Set(format string) error {
	known := slices.Contains(o.known, format) && !strings.HasPrefix(format, "jsonpath")
	if strings.HasPrefix(format, "jsonpath=") && slices.Contains(o.known, "jsonpath=…") {
		if _, err := parseTemplate(strings.TrimPrefix(format, "jsonpath=")); err != nil {
			return err
		}
		known = true
	}
	if !known && format != "" {
		return fmt.Errorf("give %s", strings.Join(o.known, ", "))
	}
	o.format = format
	return nil
}

// String and Type implement pflag.Value.
func (o *output) String() string { return o.format }

// Type implements pflag.Value.
func (o *output) Type() string { return "format" }

// data reports whether the format is one for programs.
func (o *output) data() bool { return o.format != "" && o.format != "wide" }

// list is things that a command lists, in every format.
type list struct {
	heading []string
	narrow  int        // how many columns show without -o wide; 0 means all
	rows    [][]string // with all columns
	names   []string   // for -o name
	value   any        // for -o json, yaml and jsonpath
	none    string     // the text for people if there are no rows
	color   func(row, column int, cell string) terminal.Color
}

// print prints a list in the format of the command.
func (o *output) print(out io.Writer, l *list) error {
	switch o.format {
	case "json":
		return printIndented(out, l.value)
	case "yaml":
		return printYAML(out, l.value)
	case "name":
		for _, name := range l.names {
			fmt.Fprintln(out, terminal.Line(name))
		}
		return nil
	case "csv":
		w := csv.NewWriter(terminal.Data(out))
		if l.heading != nil {
			_ = w.Write(l.heading) // Error returns the errors of these writes
		}
		_ = w.WriteAll(l.rows)
		return w.Error()
	}
	if path, ok := strings.CutPrefix(o.format, "jsonpath="); ok {
		return printPath(out, path, l.value)
	}
	if len(l.rows) == 0 {
		_, err := fmt.Fprintln(out, l.none)
		return err
	}
	t := terminal.Table{Heading: l.heading, Rows: l.rows, Color: l.color}
	if n := l.narrow; n > 0 && o.format != "wide" {
		t.Heading, t.Rows = l.heading[:n], nil
		for _, row := range l.rows {
			t.Rows = append(t.Rows, row[:n])
		}
	}
	return t.Write(out)
}

// printJSON writes a value as one line of JSON.
func printJSON(out io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = terminal.Unwrap(out).Write(append(terminal.JSON(text), '\n'))
	return err
}

// printIndented writes a value as JSON over several lines.
func printIndented(out io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = terminal.Unwrap(out).Write(append(terminal.JSON(text), '\n'))
	return err
}

// printYAML writes a value as YAML, with the fields that its JSON has.
func printYAML(out io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node // made from the JSON, so that numbers and the order of fields stay as they are
	if err := yaml.Unmarshal(text, &node); err != nil {
		return err
	}
	blockStyle(&node)
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return err
	}
	return e.Close()
}

// printPath prints the values that a template of -o jsonpath selects.
func printPath(out io.Writer, text string, v any) error {
	t, err := parseTemplate(text)
	if err != nil {
		return command.Usage("--output jsonpath: %w", err)
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, t.expand(value))
	return err
}

// stateColor returns the colour of a state: red where something needs a person, yellow where something is under way, green where all is well.
func stateColor(state string) terminal.Color {
	switch {
	case strings.Contains(state, "rejected") || strings.Contains(state, "unserved") || strings.Contains(state, "unreachable"):
		return terminal.Red
	case strings.Contains(state, "degraded") || strings.Contains(state, "pending") || strings.Contains(state, "applying") || strings.Contains(state, "without") ||
		strings.Contains(state, "draining") || strings.Contains(state, "paused") || strings.Contains(state, "cordoned"):
		return terminal.Yellow
	case state == "active" || state == "ready":
		return terminal.Green
	}
	return terminal.Plain
}
