// A SignalR hub on ASP.NET Core, spoken to as `benchmarks.peers.__main__` says.
//
// The bound on messages is raised; all else is as the library has it by default. It is written for
// .NET Core 3.1 and all that came after it.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.SignalR;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

public static class Program
{
    private const long MaxSize = 8 * 1024 * 1024;

    public static async Task Main()
    {
        using var host = Host.CreateDefaultBuilder()
            .ConfigureLogging(logging => logging.ClearProviders())
            .ConfigureWebHostDefaults(web => web
                .UseUrls("http://127.0.0.1:0")
                .ConfigureServices(services => services.AddSignalR(
                    options => options.MaximumReceiveMessageSize = MaxSize))
                .Configure(app => app
                    .UseRouting()
                    .UseEndpoints(routes => routes.MapHub<Bench>("/bench"))))
            .Build();
        await host.StartAsync();

        var addresses = host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!;
        Reply(new { ready = $"{addresses.Addresses.First()}/bench" });
        while (await Console.In.ReadLineAsync() is { } line)
        {
            using var request = JsonDocument.Parse(line);
            if (request.RootElement.GetProperty("tidy").GetBoolean())
            {
                GC.Collect();
            }
            using var process = Process.GetCurrentProcess();
            Reply(new { cpu = process.TotalProcessorTime.TotalSeconds, rss = process.WorkingSet64 });
        }
        await host.StopAsync();
    }

    private static void Reply(object answer)
    {
        Console.Out.WriteLine(JsonSerializer.Serialize(answer));
        Console.Out.Flush();
    }
}

public class Point
{
    public int X { get; set; }

    public double Y { get; set; }

    public string Label { get; set; } = "";
}

public class Bench : Hub
{
    private static Point At(int number) =>
        new Point { X = number, Y = number * 0.5, Label = $"point {number}" };

    public Point Echo(Point point) => point;

    public string Text(string value) => value;

    public async IAsyncEnumerable<Point> Items(int n)
    {
        for (var number = 0; number < n; number++)
        {
            yield return At(number);
        }
        await Task.CompletedTask;
    }

    public async IAsyncEnumerable<Point> Yielding(int n)
    {
        for (var number = 0; number < n; number++)
        {
            await Task.Yield();
            yield return At(number);
        }
    }

    public async Task<int> Upload(IAsyncEnumerable<Point> items)
    {
        var count = 0;
        await foreach (var _ in items)
        {
            count++;
        }
        return count;
    }
}
