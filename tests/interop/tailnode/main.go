// A node of Tailscale's own: WireGuard, disco, magicsock and its user-space TCP. It takes one peer from its input and
// talks to it; what it is and what happens is written as JSON, one object a line. Control is Tailscale's test server,
// inside this process.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"go4.org/mem"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// What the input says of the peer.
type peer struct {
	Key       string   `json:"key"`
	Disco     string   `json:"disco"`
	Address   string   `json:"address"`
	Endpoints []string `json:"endpoints"`
	Region    int      `json:"region"`
}

// What may be asked once the peer is known.
type command struct {
	Ping string `json:"ping"` // "disco" or "TSMP"
	Dial int    `json:"dial"` // send a line to this port of the peer, and read one
}

func say(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	directory := flag.String("dir", "", "state")
	relay := flag.Int("relay", 0, "port of the relay on loopback")
	stun := flag.Int("stun", -1, "port of the STUN server on loopback")
	verbose := flag.Bool("verbose", false, "log to stderr")
	flag.Parse()

	logf := logger.Discard
	if *verbose {
		logf = log.Printf
	}
	derp := &tailcfg.DERPMap{OmitDefaultRegions: true, Regions: map[int]*tailcfg.DERPRegion{999: {
		RegionID: 999, RegionCode: "t", RegionName: "Test",
		Nodes: []*tailcfg.DERPNode{{Name: "999a", RegionID: 999, HostName: "127.0.0.1", IPv4: "127.0.0.1", IPv6: "none",
			DERPPort: *relay, STUNPort: *stun, InsecureForTests: true, STUNTestIP: "127.0.0.1"}},
	}}}
	control := &testcontrol.Server{Logf: logf, DERPMap: derp, AllNodesSameUser: true}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	control.ExplicitBaseURL = "http://" + listener.Addr().String()
	go http.Serve(listener, control)

	node := &tsnet.Server{Dir: *directory, Hostname: "node", ControlURL: control.ExplicitBaseURL, Ephemeral: true,
		Logf: logf, UserLogf: logf}
	defer node.Close()
	context, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(node.Up(context))
	go echo(must(node.Listen("tcp", ":7")))

	var self *tailcfg.Node
	for self == nil || self.HomeDERP == 0 || len(self.Endpoints) == 0 {
		time.Sleep(50 * time.Millisecond)
		self = control.AllNodes()[0]
	}
	addresses := []string{}
	for _, prefix := range self.Addresses {
		addresses = append(addresses, prefix.Addr().String())
	}
	say(map[string]any{"key": self.Key.UntypedHexString(), "disco": fmt.Sprintf("%x", self.DiscoKey.Raw32()),
		"addresses": addresses, "endpoints": self.Endpoints, "region": self.HomeDERP})

	input := bufio.NewScanner(os.Stdin)
	input.Scan()
	var other peer
	if err := json.Unmarshal(input.Bytes(), &other); err != nil {
		log.Fatal(err)
	}
	address := netip.MustParseAddr(other.Address)
	control.UpdateNode(describe(other, address))
	client := must(node.LocalClient())
	for known := false; !known; {
		time.Sleep(20 * time.Millisecond)
		for _, status := range must(client.Status(context)).Peer {
			known = known || len(status.TailscaleIPs) > 0 && status.TailscaleIPs[0] == address
		}
	}
	say(map[string]any{"ready": true})
	for input.Scan() {
		var asked command
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		switch {
		case asked.Ping != "":
			result, err := client.Ping(context, address, tailcfg.PingType(asked.Ping))
			if err != nil || result.Err != "" {
				say(map[string]any{"error": fmt.Sprint(err, result)})
				continue
			}
			say(map[string]any{"seconds": result.LatencySeconds, "endpoint": result.Endpoint, "region": result.DERPRegionID})
		case asked.Dial != 0:
			answer, err := ask(context, node, netip.AddrPortFrom(address, uint16(asked.Dial)))
			if err != nil {
				say(map[string]any{"error": err.Error()})
				continue
			}
			say(map[string]any{"answer": answer})
		}
	}
}

func describe(other peer, address netip.Addr) *tailcfg.Node {
	node := &tailcfg.Node{
		ID: 77, StableID: "peer", Name: "peer.test.", User: 1, Machine: key.NewMachine().Public(),
		Key:               must(key.ParseNodePublicUntyped(mem.S(other.Key))),
		Addresses:         []netip.Prefix{netip.PrefixFrom(address, 128)},
		AllowedIPs:        []netip.Prefix{netip.PrefixFrom(address, 128)},
		MachineAuthorized: true, HomeDERP: other.Region, Cap: tailcfg.CurrentCapabilityVersion,
		Hostinfo: (&tailcfg.Hostinfo{Hostname: "peer"}).View(),
	}
	if err := node.DiscoKey.UnmarshalText([]byte("discokey:" + other.Disco)); err != nil {
		log.Fatal(err)
	}
	for _, endpoint := range other.Endpoints {
		node.Endpoints = append(node.Endpoints, netip.MustParseAddrPort(endpoint))
	}
	return node
}

// Answer what comes, to its end.
func echo(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			io.Copy(connection, connection)
		}()
	}
}

func ask(context context.Context, node *tsnet.Server, to netip.AddrPort) (string, error) {
	connection, err := node.Dial(context, "tcp", to.String())
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, "question"); err != nil {
		return "", err
	}
	return bufio.NewReader(connection).ReadString('\n')
}
