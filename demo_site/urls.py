from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.views import serve
from django.http import HttpResponse
from django.urls import include, path

from demo_site import people

sign_in = LoginView.as_view(redirect_authenticated_user=True, extra_context={"people": people})

urlpatterns = [
    path("", include("demo_site.boxoffice.urls")),
    path("lab/", include("demo_site.lab.urls")),
    path("pooling/", include("pooling.urls")),
    path("accounts/login/", sign_in, name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # The admin's pages name no icon, so browsers ask for this one.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
    # A demo on the loopback interface: no web server stands in front of it to serve these files.
    path("static/<path:path>", serve, {"insecure": True}),
]
